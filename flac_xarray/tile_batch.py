"""What tasks say about the tiles they stored, and the header that follows from it.

Strategy: a task that stores tiles returns a `Batch`, a small value: where each tile
went, not its bytes. Batches are joined in a tree, and the last of them gives the tile
tables. A task that is run twice gives the same answer twice, and only answers that
arrive count, so a lost worker loses nothing (docs/format.md, section 8).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import FormatError
from flac_xarray.header import Header
from flac_xarray.tile_table import ENTRY, TileTable, tile_crc

__all__ = [
    "PLACED",
    "Batch",
    "EncodedTile",
    "Part",
    "build_tables",
    "joined",
    "packed_rows",
]

PLACED: Final = np.dtype(
    [
        ("array", "<u4"),
        ("number", "<u8"),
        ("part", "<u4"),
        ("offset", "<u8"),
        ("nbytes", "<u4"),
        ("crc32", "<u4"),
    ]
)
"""One stored tile: which, in which part, where in it, and the CRC of its bytes."""


@dataclass(frozen=True, slots=True)
class EncodedTile:
    """A tile's FLAC stream that is not stored yet."""

    array: int
    """Position of its array in the header."""
    number: int
    """Its number in that array."""
    data: bytes
    """The stream; nothing for an empty tile."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the file that was stored on its own."""

    number: int
    """Its place among the parts, from 1; 0 where bytes go straight into the file."""
    nbytes: int
    """Its size."""
    tag: str = ""
    """What the store calls this content."""


def _nothing() -> NDArray[np.void]:
    return np.zeros(0, PLACED)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tiles that were stored, and those that wait for more to be stored with.

    Examples
    --------
    >>> tile = EncodedTile(0, 7, b"fLaC")
    >>> batch = Batch.placing([tile], Part(0, 4), base=100)
    >>> batch.placed["offset"].tolist(), batch.waiting
    ([100], ())
    """

    placed: NDArray[np.void] = field(default_factory=_nothing)
    """Structured array of `PLACED`."""
    parts: tuple[Part, ...] = ()
    """Parts that hold them, where the file is stored in parts."""
    waiting: tuple[EncodedTile, ...] = ()
    """Tiles that are not stored yet."""

    @classmethod
    def placing(cls, tiles: Sequence[EncodedTile], part: Part, *, base: int) -> Batch:
        """Say that tiles were stored one behind the other.

        Parameters
        ----------
        tiles
            The tiles, empty ones among them.
        part
            Where.
        base
            Byte of the part at which the first begins.
        """
        rows = []
        for tile in tiles:
            n = len(tile.data)
            crc = zlib.crc32(tile.data) if n else 0
            rows.append((tile.array, tile.number, part.number, base, n, crc))
            base += n
        parts = (part,) if part.number else ()
        return cls(np.array(rows, PLACED), parts)

    @property
    def waiting_nbytes(self) -> int:
        """Bytes that are not stored yet."""
        return sum(len(tile.data) for tile in self.waiting)


def joined(batches: Iterable[Batch]) -> Batch:
    """Join batches in order."""
    batches = list(batches)
    return Batch(
        np.concatenate([_nothing(), *(b.placed for b in batches)]),
        tuple(part for b in batches for part in b.parts),
        tuple(tile for b in batches for tile in b.waiting),
    )


def build_tables(
    header: Header, placed: NDArray[np.void], starts: Mapping[int, int]
) -> list[TileTable]:
    """Give the tile tables of a file all of whose tiles are stored.

    Parameters
    ----------
    header
        What the file says about itself.
    placed
        Every tile of every array.
    starts
        Byte of the file at which each part begins.

    Raises
    ------
    FormatError
        A tile is missing, or was stored twice.
    """
    tables = []
    for position, info in enumerate(header.arrays):
        rows = placed[placed["array"] == position]
        counts = np.bincount(
            rows["number"].astype(np.int64), minlength=info.grid.n_tiles
        )
        wrong = np.flatnonzero(counts != 1)
        if len(wrong) or len(counts) != info.grid.n_tiles:
            first = int(wrong[0])
            msg = (
                f"{len(wrong)} of {info.grid.n_tiles} tiles of array {info.name!r} "
                f"were not written once, the first being {info.grid.index(first)}, "
                f"written {counts[first]} times"
            )
            raise FormatError(msg)
        rows = rows[np.argsort(rows["number"], kind="stable")]
        tables.append(TileTable.build(position, spans_of(rows, starts)))
    return tables


def spans_of(
    placed: NDArray[np.void], starts: Mapping[int, int]
) -> Iterator[tuple[int, int, int]]:
    """Give (offset in the file, nbytes, CRC of the bytes) of stored tiles."""
    for _, _, part, offset, nbytes, crc in placed.tolist():
        yield (starts[part] + offset if nbytes else 0), nbytes, crc


def packed_rows(
    placed: NDArray[np.void], tables: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Give the row of each stored tile, and its offset in a file.

    Parameters
    ----------
    placed
        Tiles that lie in that file already.
    tables
        Offset of each array's tile table.
    """
    spans = spans_of(placed, {0: 0})
    pairs = zip(placed["array"].tolist(), placed["number"].tolist(), strict=True)
    for (array, number), (offset, nbytes, data_crc) in zip(pairs, spans, strict=True):
        crc = tile_crc(data_crc, array, number, offset, nbytes)
        yield tables[array] + number * ENTRY.size, ENTRY.pack(offset, nbytes, crc)
