"""Files that are not containers of this format (docs/legacy.md): reading them.

Strategy: bare tiles of our own, the seed's spatial indexes and flac-raster's files
become the values that the container makes. Pure, like the rest of the format core:
bytes come through a callable, and any bytes give a value, None or a `FormatError`.
Deletable, but for the three lines of the reader that call it.
"""

from flac_xarray.legacy.files import LegacyFile, read_legacy
from flac_xarray.legacy.stretch import Stretch, lossy_reason, undo_stretch

__all__ = ["LegacyFile", "Stretch", "lossy_reason", "read_legacy", "undo_stretch"]
