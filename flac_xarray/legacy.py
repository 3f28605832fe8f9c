"""Files that are not containers of this format: bare tiles (docs/format.md, 4.4).

Strategy: the seed's shapes become the values that the container makes, so that nothing
above knows the difference. Deletable without a trace elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

from flac_xarray.container import Layout
from flac_xarray.header import Header
from flac_xarray.tile_table import TileTable

__all__ = ["read_legacy"]

ReadRange = Callable[[int, int], "bytes | memoryview"]


def read_legacy(
    prefix: bytes, size: int | None, read_range: ReadRange
) -> tuple[Header, Layout, tuple[TileTable, ...]] | None:
    """Read the index of a file of another kind; None when it is of no known kind."""
    del prefix, size, read_range
    return None
