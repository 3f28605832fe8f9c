"""Whole legacy files: which form it is, and its parts as the container's values.

Strategy: each form ends in the same `LegacyFile`, so that nothing above knows the
difference. How an index counts its offsets is never believed: every way that is known
is tried until tiles lie apart, inside the file, and begin with FLAC's magic.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flac_xarray.container import LENGTH, MAX_HEADER_NBYTES, Layout
from flac_xarray.errors import FormatError, LossyFileWarning, NotFlacRasterError
from flac_xarray.georef import Georef
from flac_xarray.grid import TileGrid
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.legacy.comments import (
    read_dtype,
    read_georef,
    read_leading,
    read_nodata,
    read_size,
)
from flac_xarray.legacy.file_bytes import FileBytes, ReadRange, StreamHead, require_size
from flac_xarray.legacy.stretch import Stretch, check_dtype, lossy_reason
from flac_xarray.legacy.tile_list import (
    TileList,
    derive_grid,
    unpack_embedded_index,
    unpack_index,
)
from flac_xarray.tile_table import TileTable

__all__ = ["LegacyFile", "read_legacy"]

MAGIC: Final = b"fLaC"
NAME: Final = "band_data"
MAX_TILE_FILE_NBYTES: Final = (1 << 32) - 1
"""Longest FLAC stream that a tile table can hold."""
STACKLEVEL: Final = 5
"""From here to who called `FlacRaster.open`."""
BARE_METADATA: Final = 54
"""Metadata that flac-raster's encoder writes, the vendor's name aside: magic,
STREAMINFO, and a comment block without comments."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LegacyFile:
    """A file of another kind, described like a container."""

    header: Header
    """One array."""
    layout: Layout
    """Where its table would be: nowhere."""
    tables: tuple[TileTable, ...]
    """One table, without checksums."""
    comments: Mapping[str, str]
    """Comments that hold for tiles without their own."""
    lossy: str | None
    """Why the first tile's values may not be the original ones."""


def read_legacy(
    prefix: bytes, size: int | None, read_range: ReadRange
) -> LegacyFile | None:
    """Read the index of a file of another kind; None when it is of no known kind.

    Parameters
    ----------
    prefix
        Its first bytes.
    size
        Its size, None where nobody tells.
    read_range
        Gives bytes from start to stop; called rarely, and never beyond `size`.

    Raises
    ------
    FormatError
        The file is damaged or of a form that is refused; the message says why.

    Warns
    -----
    LossyFileWarning
        The file's own writer lost values, or may have.
    """
    found = _read(FileBytes(prefix, size, read_range))
    if found is not None and found.lossy is not None:
        warnings.warn(found.lossy, LossyFileWarning, stacklevel=STACKLEVEL)
    return found


def _read(file: FileBytes) -> LegacyFile | None:
    prefix, size = file.prefix, file.nbytes
    if prefix[: len(MAGIC)] == MAGIC:
        return _read_stream(file)
    if prefix[LENGTH.size : LENGTH.size + 1] != b"{":
        return None
    stop = LENGTH.size + LENGTH.unpack_from(prefix)[0]
    if stop > MAX_HEADER_NBYTES or (size is not None and stop > size):
        return None
    tiles = unpack_index(file.get(LENGTH.size, stop))
    if tiles is None:
        return None
    # `frames` count from the end of the JSON; `tiles` from there or from byte 0.
    shifts = [stop] if tiles.is_frames else [stop, 0]
    return _indexed(file, tiles, [(shift, shift) for shift in shifts], stop)


def _read_stream(file: FileBytes) -> LegacyFile:
    """Read a file that begins with a FLAC stream: one tile, or one after another."""
    stop = file.nbytes if file.nbytes is not None else MAX_HEADER_NBYTES
    head = file.read_head(0, stop)
    if "GEOSPATIAL_SPATIAL_INDEX" in head.comments:
        tiles = unpack_embedded_index(head.comments["GEOSPATIAL_SPATIAL_INDEX"])
        ends = max(end for _, end in tiles.spans)
        # The index was made before the comments that hold it were put in.
        shifts = [head.nbytes - BARE_METADATA - head.vendor_nbytes, 0]
        if file.nbytes is not None:
            shifts.insert(0, file.nbytes - ends)
        moves = [(0, shift) for shift in shifts if shift >= 0]
        return _indexed(file, tiles, moves, 0, head)
    if "GEOSPATIAL_DTYPE" not in head.comments:
        msg = "a FLAC stream without GEOSPATIAL_* comments: sound, not a raster"
        raise NotFlacRasterError(msg, found=file.prefix[:16])
    size = require_size(file)
    count, height, width = read_size(head.comments)
    leading = read_leading(head.comments, count)
    grid = TileGrid((height, width), (height, width))
    return _describe(file, head, grid, leading, read_georef(head.comments), [(0, size)])


def _indexed(
    file: FileBytes,
    tiles: TileList,
    moves: Sequence[tuple[int, int]],
    data_start: int,
    head: StreamHead | None = None,
) -> LegacyFile:
    """Describe a file with an index.

    Parameters
    ----------
    moves
        Ways to count: what to add to an offset of 0, and to the others.
    head
        The comments that hold for all tiles, None where each has its own.
    """
    grid, numbers = derive_grid(tiles)
    # Where `byte_range` ends is not said: the seed's HTTP ranges include the end.
    extras = [0] if tiles.is_frames else [1, 0]
    # The first stream begins at 0 however the others are counted: the second decides.
    probed = 1 if head is None else 2
    total = sum(end - start for start, end in tiles.spans)
    extras.sort(key=lambda n: total + n * len(numbers) != tiles.total_nbytes)
    for extra, (first, others) in itertools.product(extras, moves):
        spans = [
            (start + (others if start else first), end + others + extra)
            for start, end in tiles.spans
        ]
        if _is_apart(spans, data_start, file.nbytes) and all(
            file.is_stream(start) for start, _ in sorted(spans)[:probed]
        ):
            break
    else:
        msg = (
            "the index's offsets lead to no FLAC streams that lie apart and inside the "
            f"file of {file.nbytes} bytes"
        )
        raise FormatError(msg)
    by_number = [span for _, span in sorted(zip(numbers, spans, strict=True))]
    own = file.read_head(*by_number[0]) if head is None else head
    leading = read_leading(own.comments, own.info.channels)
    told = read_georef(own.comments)
    georef = replace(
        told,
        crs=tiles.georef.crs or told.crs,
        transform=tiles.georef.transform or told.transform,
    )
    found = _describe(file, own, grid, leading, georef, by_number)
    return replace(found, comments={} if head is None else head.comments)


def _is_apart(spans: Sequence[Span], data_start: int, nbytes: int | None) -> bool:
    """Whether tiles are neither empty nor overlap and lie inside the file."""
    ends = [data_start]
    for start, stop in sorted(spans):
        if start < ends[-1] or not 0 < stop - start <= MAX_TILE_FILE_NBYTES:
            return False
        ends.append(stop)
    return nbytes is None or ends[-1] <= nbytes


def _describe(
    file: FileBytes,
    head: StreamHead,
    grid: TileGrid,
    leading: tuple[int, ...],
    georef: Georef,
    spans: Sequence[Span],
) -> LegacyFile:
    """Make the container's values."""
    dtype, lossy = read_dtype(head.comments), None
    if "GEOSPATIAL_TRANSFORMS" not in head.comments:
        lossy = _check_stretched(head, dtype, leading)
    dims = (*(f"dim_{k}" for k in range(len(leading) - 1)), "band", "y", "x")
    info = ArrayInfo(
        NAME,
        dtype,
        dims if leading else dims[-2:],
        (*leading, *grid.shape),
        (*leading, *grid.tile),
        nodata=(read_nodata(head.comments, dtype),),
    )
    return LegacyFile(
        Header((info,), georef),
        Layout(0, (0,), (len(spans),), spans[0][0], file.nbytes or 0),
        (TileTable.unchecked([(start, stop - start) for start, stop in spans]),),
        {},
        lossy,
    )


def _check_stretched(
    head: StreamHead, dtype: str, leading: tuple[int, ...]
) -> str | None:
    """Compare flac-raster's comments with its stream; say why values are lost."""
    check_dtype(dtype, head.info.bits_per_sample)
    if leading != (head.info.channels,):
        msg = f"{leading} bands in a stream of {head.info.channels} channels"
        raise FormatError(msg)
    stretch = Stretch.from_comments(head.comments)
    return lossy_reason(dtype, head.info.bits_per_sample, stretch)
