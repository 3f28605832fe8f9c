"""Tile tables: where each tile lies, and whether it is the right one.

Strategy: a table is a NumPy structured array straight from the file (docs/format.md,
sections 2.3 and 6); every row is checked against the file before it is used, and
carries a checksum over the tile's bytes and its place.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError, FormatError, TruncatedError

__all__ = [
    "ENTRY",
    "ENTRY_DTYPE",
    "POSITION",
    "TileEntry",
    "TileTable",
    "check_overlap",
    "tile_crc",
    "unpack_table",
]

ENTRY: Final = struct.Struct("<QII")
"""One row of a tile table: offset, nbytes, crc32."""
ENTRY_DTYPE: Final = np.dtype([("offset", "<u8"), ("nbytes", "<u4"), ("crc32", "<u4")])
POSITION: Final = struct.Struct("<IQQI")
"""What a row's CRC covers behind the tile: array, tile number, offset, nbytes."""


@dataclass(frozen=True, slots=True)
class TileEntry:
    """One row of a tile table (docs/format.md, section 6)."""

    offset: int
    """First byte of the tile in the file; 0 for an empty tile."""
    nbytes: int
    """Bytes of its FLAC stream; 0 for an empty tile."""
    crc32: int | None
    """Checksum of bytes and position, see `tile_crc`; None in files without one."""

    @property
    def stop(self) -> int:
        """One past its last byte."""
        return self.offset + self.nbytes


def tile_crc(data_crc: int, array: int, number: int, offset: int, nbytes: int) -> int:
    """Checksum of a table row: the tile's bytes, then which tile they are and where.

    A flipped bit in a row, a tile in another's place or a tile of another file is
    found by the same check as damage in the bytes.

    Parameters
    ----------
    data_crc
        CRC-32 of the tile's bytes alone, 0 for an empty tile.
    array, number
        Position of the array in the header and of the tile in its table.
    offset, nbytes
        The row's two other fields.
    """
    return zlib.crc32(POSITION.pack(array, number, offset, nbytes), data_crc)


@dataclass(frozen=True, slots=True)
class TileTable:
    """Rows of one array's tile table, or some of them from `first` on.

    Examples
    --------
    >>> table = TileTable.build(0, [(64, 10, 0), None])
    >>> table.entry(0).stop, table.entry(1).nbytes
    (74, 0)
    """

    rows: NDArray[np.void]
    """Structured array of ``offset``, ``nbytes``, ``crc32``."""
    first: int = 0
    """Tile number of the first row."""
    has_crc: bool = True
    """Whether the rows carry checksums: the seed's indexes and bare tiles do not."""

    @classmethod
    def build(
        cls, array: int, tiles: Iterable[tuple[int, int, int] | None]
    ) -> TileTable:
        """Make a table from (offset, nbytes, CRC-32 of the bytes), None being empty."""
        rows = [
            (o, n, tile_crc(crc, array, number, o, n))
            for number, (o, n, crc) in enumerate(t or (0, 0, 0) for t in tiles)
        ]
        return cls(np.array(rows, ENTRY_DTYPE))

    @classmethod
    def unchecked(cls, spans: Sequence[tuple[int, int]]) -> TileTable:
        """Make a table from (offset, nbytes) of a file that has no checksums."""
        return cls(np.array([(o, n, 0) for o, n in spans], ENTRY_DTYPE), has_crc=False)

    def pack(self) -> bytes:
        """Give the table's bytes."""
        return self.rows.tobytes()

    def entry(self, number: int) -> TileEntry:
        """Row of one tile number."""
        offset, nbytes, crc = self.rows[number - self.first].item()
        return TileEntry(offset, nbytes, crc if self.has_crc else None)

    def check_tile(self, data: bytes | memoryview, array: int, number: int) -> None:
        """Compare a tile's bytes and position with its row.

        Raises
        ------
        CorruptTileError
            They differ, or the tile was never written.
        """
        row = self.entry(number)
        if row.crc32 is None:
            return
        data_crc = zlib.crc32(data) if len(data) else 0
        found = tile_crc(data_crc, array, number, row.offset, row.nbytes)
        if found != row.crc32:
            was_written = any(self.rows[number - self.first].item())
            state = "damaged" if was_written else "missing"
            msg = (
                f"tile {number} at byte {row.offset} is {state}: checksum "
                f"{row.crc32:08x} expected, {found:08x} found"
            )
            raise CorruptTileError(msg, offset=row.offset)


def unpack_table(
    data: bytes, data_start: int, *, first: int = 0, file_nbytes: int | None = None
) -> TileTable:
    """Read rows of a tile table.

    Parameters
    ----------
    data
        Whole rows.
    data_start
        First byte that a tile may take.
    first
        Tile number of the first row.
    file_nbytes
        Size of the file where it is known.

    Raises
    ------
    TruncatedError
        A tile ends after the end of the file.
    FormatError
        A row that no writer makes.
    """
    rows = np.frombuffer(data, ENTRY_DTYPE)
    offset, nbytes = rows["offset"], rows["nbytes"].astype(np.uint64)
    end = file_nbytes or (1 << 63)
    used = nbytes > 0
    bad = (~used & (offset != 0)) | (used & (offset < data_start))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        msg = (
            f"tile {first + k} at byte {offset[k]} ({nbytes[k]} bytes) lies outside "
            f"the tiles' part of the file, which begins at {data_start}"
        )
        raise FormatError(msg)
    past = used & ((offset > end) | (nbytes > end - np.minimum(offset, end)))
    if past.any():
        k = int(np.flatnonzero(past)[0])
        stop = int(offset[k]) + int(nbytes[k])
        what = f"tile {first + k}"
        msg = f"{what} ends at byte {stop}: the file has {end}"
        raise TruncatedError(msg, what=what, expected=stop, found=end)
    return TileTable(rows, first)


def check_overlap(tables: Sequence[TileTable]) -> None:
    """Refuse tiles that share bytes, over all arrays of a file.

    Raises
    ------
    FormatError
        Naming the first byte that two tiles claim.
    """
    rows = np.concatenate([table.rows for table in tables])
    rows = rows[rows["nbytes"] > 0]
    order = np.argsort(rows["offset"], kind="stable")
    offset = rows["offset"][order]
    stop = offset + rows["nbytes"][order]
    clash = np.flatnonzero(stop[:-1] > offset[1:])
    if len(clash):
        k = clash[0]
        msg = (
            f"two tiles overlap: one ends at byte {stop[k]}, another begins at "
            f"{offset[k + 1]}"
        )
        raise FormatError(msg)
