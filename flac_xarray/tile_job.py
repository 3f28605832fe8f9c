"""What a task does with its tiles: encode them, store them, say where they went.

Strategy: a `TileJob` is one picklable value for all tasks of a write: the encoder and
the place where bytes go. Files take every task's bytes at once; stores take parts of
some megabytes, so tiles wait in the answers of their tasks until there are enough.
Nothing is held in a worker between two tasks: what a dead one had stored is stored
again, by the tasks that are run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from flac_xarray.container import header_nbytes, pack_header
from flac_xarray.dtypes import numpy_dtype
from flac_xarray.header import Header
from flac_xarray.object_upload import MIN_PART_NBYTES
from flac_xarray.region_file import RegionFile
from flac_xarray.shared_file import SharedFile
from flac_xarray.tile_batch import (
    Batch,
    EncodedTile,
    Part,
    build_tables,
    joined,
    packed_rows,
)
from flac_xarray.tile_encoder import TileEncoder

__all__ = ["Place", "TileJob"]

PIECE_NBYTES: Final = 4 << 20
"""Encoded bytes that a task holds before it writes them into a file."""


class Place(Protocol):
    """Where bytes go; pickles."""

    name: str
    waits: bool
    """Whether tiles wait until there are enough for a part."""

    def put(self, number: int, data: bytes) -> tuple[Part, int]:
        """Store bytes; give the part, and the byte of it at which they begin."""

    def finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        """Store the file's first bytes and make it appear."""

    def abort(self) -> None:
        """Leave nothing behind."""

    def release(self) -> None:
        """Hold nothing any longer: the file is finished."""


@dataclass(frozen=True, slots=True)
class TileJob:
    """One write, as its tasks know it."""

    encoder: TileEncoder
    """Holds the header."""
    place: Place
    """Where bytes go."""

    @property
    def header(self) -> Header:
        """What the file will say about itself."""
        return self.encoder.header

    def encode(self, position: int, start: Sequence[int], block: NDArray[Any]) -> Batch:
        """Encode a block of whole tiles.

        Parameters
        ----------
        position
            Which array.
        start
            The block's first pixel along each dim.
        block
            Its pixels.
        """
        info = self.header.arrays[position]
        # xarray's lazy encoders may give a wider dtype than they declared.
        dtype = numpy_dtype(info.dtype)
        pixels = block.astype(dtype, casting="same_kind", copy=False)
        within = tuple(slice(o, o + n) for o, n in zip(start, block.shape, strict=True))
        return self.store(
            EncodedTile(
                position,
                cut.number,
                self.encoder.encode(position, cut.index, pixels[cut.into]),
            )
            for cut in info.grid.cuts(within)
        )

    def store(self, tiles: Iterable[EncodedTile]) -> Batch:
        """Store tiles, or let them wait for more."""
        if self.place.waits:
            return Batch(waiting=tuple(tiles))
        batches, held, nbytes = [], [], 0
        for tile in tiles:
            held.append(tile)
            nbytes += len(tile.data)
            if nbytes >= PIECE_NBYTES:
                batches.append(self._put(0, held))
                held, nbytes = [], 0
        batches.append(self._put(0, held))
        return joined(batches)

    def join(self, number: int, batches: Sequence[Batch], *, is_first: bool) -> Batch:
        """Join batches; store what waits in them, if it is enough for a part.

        Parameters
        ----------
        number
            The part that this task alone may store.
        batches
            In the order of their tiles.
        is_first
            Whether the first tiles of all are among them: as many of those go on
            waiting as part 1 has room for behind the header.
        """
        batch = joined(batches)
        if not batch.waiting:
            return batch
        room = MIN_PART_NBYTES - header_nbytes(self.header) if is_first else 0
        ends = list(accumulate(len(tile.data) for tile in batch.waiting))
        n_kept = int(np.searchsorted(ends, room)) + 1 if room > 0 else 0
        kept, full = batch.waiting[:n_kept], batch.waiting[n_kept:]
        if sum(len(tile.data) for tile in full) < MIN_PART_NBYTES:
            return batch
        put = self._put(number, full)
        return joined([Batch(batch.placed, batch.parts, kept), put])

    def _put(self, number: int, tiles: Sequence[EncodedTile]) -> Batch:
        data = b"".join([tile.data for tile in tiles])
        if not data:  # empty tiles take no bytes
            return Batch.placing(tiles, Part(0, 0), base=0)
        part, base = self.place.put(number, data)
        return Batch.placing(tiles, part, base=base)

    def finish(self, batch: Batch) -> str:
        """Write the header of a file all of whose tiles are stored or wait.

        Returns
        -------
        str
            Name of the file.

        Raises
        ------
        FormatError
            A tile is missing.
        """
        if isinstance(self.place, RegionFile):
            self.place.write_rows(packed_rows(batch.placed, self.place.tables))
            return self.place.name
        if isinstance(self.place, SharedFile):
            # A task that was given up for dead may still run: it comes too late.
            file_nbytes = self.place.end()
            tables = build_tables(self.header, batch.placed, {0: 0})
            head = pack_header(self.header, tables, file_nbytes)
            self.place.finish(head, ())
            return self.place.name
        reserved = header_nbytes(self.header)
        first = Batch.placing(batch.waiting, Part(1, 0), base=reserved)
        body = b"".join([tile.data for tile in batch.waiting])
        if batch.parts:  # only the last part may be smaller
            body = body.ljust(MIN_PART_NBYTES - reserved, b"\0")
        parts = sorted(batch.parts, key=lambda part: part.number)
        sizes = [reserved + len(body), *(part.nbytes for part in parts)]
        starts = dict(
            zip(
                [1, *(part.number for part in parts)],
                accumulate(sizes, initial=0),
                strict=False,
            )
        )
        placed = np.concatenate([batch.placed, first.placed])
        tables = build_tables(self.header, placed, {0: 0, **starts})
        head = pack_header(self.header, tables, sum(sizes))
        self.place.finish(head + body, tuple(parts))
        return self.place.name
