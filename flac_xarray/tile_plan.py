"""The tiles that one computation needs, read by its tasks.

Strategy: under dask each task reads a tile or a few, so on a slow link each would wait
for a round trip of its own. A `TilePlan` knows all the tiles that a computation will
read (dask's culling tells it, see `dask_tiles`), those of a mask or an alpha band
included, and has them fetched ahead of the tasks (`fetch_ahead`).

On a cluster the scheduler spreads neighbouring tasks over workers, and a worker that
fetched ahead would fetch what others fetch too. There tasks of their own fetch a batch
of tiles, compressed, for the tasks that decode them, which follow them to the worker.
"""

from __future__ import annotations

import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flac_xarray.fetch_ahead import Data, FetchAhead
from flac_xarray.forking import fork_safe_lock
from flac_xarray.masking import Masking

if TYPE_CHECKING:
    from flac_xarray.reader import FlacRaster
    from flac_xarray.tile_view import TileView

__all__ = ["FetchedTiles", "TilePlan"]

FetchedTiles = Mapping[tuple[int, int], bytes]
"""Tiles' streams by position of the array and number of the tile."""


class TilePlan:
    """Reads the tiles of one array for one computation.

    Parameters
    ----------
    view
        What is read.
    numbers : ndarray of uint32
        Number of the tile of every read.
    """

    def __init__(self, view: TileView, numbers: NDArray[np.uint32]) -> None:
        self.view = view
        self.numbers = np.sort(numbers)
        self._lock = fork_safe_lock()
        self._queues: dict[int, FetchAhead] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Steps of a selection are alike: 100,000 numbers become a few hundred bytes.
        steps = np.diff(self.numbers, prepend=np.uint32(0)).astype("<u4")
        return (_unpacked, (self.view, zlib.compress(steps.tobytes())))

    def __repr__(self) -> str:
        return f"<TilePlan of {len(self.numbers)} tiles>"

    def fetch(self, numbers: Sequence[int]) -> FetchedTiles:
        """Fetch tiles of the view, and what masks them, for several reads."""
        raster = self.view.array.ref.raster()
        return {
            (position, wanted[k]): bytes(data)
            for position, uses in self._uses(raster, numbers).items()
            for wanted in [list(uses)]
            for k, data in raster.fetch_tiles(position, wanted)
        }

    def read(
        self, block: tuple[slice, ...], fetched: FetchedTiles | None = None
    ) -> NDArray[Any]:
        """Read one block of the view, its tiles being among the plan's.

        Parameters
        ----------
        block
            Inside the view.
        fetched
            What `fetch` gave for the tiles of the block, among others.
        """
        if fetched is None:
            return self.view.read(block, self._fetch)
        found = fetched

        def at_hand(
            _: FlacRaster, position: int, numbers: Sequence[int]
        ) -> Iterator[tuple[int, Data]]:
            for k, number in enumerate(numbers):
                yield k, found[position, number]

        return self.view.read(block, at_hand)

    def _fetch(
        self, raster: FlacRaster, position: int, numbers: Sequence[int]
    ) -> Iterator[tuple[int, Data]]:
        """Give the bytes of tiles; the reader's way to ask, see `FlacRaster`."""
        # A local file does not make its readers wait.
        at_once = raster.source.limits.concurrency == 1 or _on_a_cluster()
        with self._lock:
            if self._queues is None:
                self._queues = {} if at_once else self._announce(raster)
        queue = self._queues.get(position)
        if queue is None:
            yield from raster.fetch_tiles(position, numbers)
        else:
            yield from queue.take(raster, numbers)

    def _announce(self, raster: FlacRaster) -> dict[int, FetchAhead]:
        """Say what the tasks will read of each array."""
        uses = self._uses(raster, self.numbers.tolist())
        return {k: FetchAhead(k, counts) for k, counts in uses.items()}

    def _uses(
        self, raster: FlacRaster, numbers: Sequence[int]
    ) -> dict[int, Counter[int]]:
        """Find how often reading some tiles takes which tiles of which array."""
        at = self.view.array.position
        uses = {at: Counter(numbers)}
        if self.view.array.masked:
            rules = Masking.of(raster.header, at)
            if rules.mask is not None:
                uses[rules.mask] = Counter(_mask_tiles(raster, rules, numbers))
            elif rules.alpha is not None:
                uses[at].update(_alpha_tiles(raster, rules, numbers))
        return uses


def _mask_tiles(
    raster: FlacRaster, rules: Masking, numbers: Sequence[int]
) -> Iterator[int]:
    """Give the mask's tiles under each tile, as `Masking.apply` reads them."""
    assert rules.mask is not None  # noqa: S101
    grid = raster.header.arrays[rules.position].grid
    mask_grid = raster.header.arrays[rules.mask].grid
    for number in numbers:
        block = [
            part
            for axis, part in enumerate(grid.slices(grid.index(number)))
            if axis not in rules.unmasked_axes
        ]
        yield from (cut.number for cut in mask_grid.cuts(block))


def _alpha_tiles(
    raster: FlacRaster, rules: Masking, numbers: Sequence[int]
) -> Iterator[int]:
    """Give the alpha band's tile over each tile, as `Masking.apply` reads it."""
    assert rules.alpha is not None  # noqa: S101
    assert rules.band_axis is not None  # noqa: S101
    grid = raster.header.arrays[rules.position].grid
    for number in numbers:
        index = list(grid.index(number))
        index[rules.band_axis] = rules.alpha // grid.tile[rules.band_axis]
        yield grid.number(index)


def _unpacked(view: TileView, steps: bytes) -> TilePlan:
    numbers = np.cumsum(np.frombuffer(zlib.decompress(steps), "<u4"), dtype=np.uint32)
    return TilePlan(view, numbers)


def _on_a_cluster() -> bool:
    """Whether this is a task on a dask.distributed worker."""
    worker = sys.modules.get("distributed.worker")
    if worker is None:
        return False
    try:
        worker.get_worker()
    except ValueError:
        return False
    return True
