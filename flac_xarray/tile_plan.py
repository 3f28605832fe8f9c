"""The tiles that one computation needs, fetched in batches ahead of their readers.

Strategy: under dask each task reads one tile, so on a slow link each would wait for a
round trip of its own. A `TilePlan` knows all the tiles that a computation will read
(dask's culling tells it, see `dask_tiles`), so when the first of a batch is asked for,
that batch and the next ones are fetched together in the background and wait,
compressed, for the tasks that decode them. Nothing is fetched that no task wants.
"""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from flac_xarray.lazy_array import RasterArray
    from flac_xarray.reader import FlacRaster

__all__ = ["TilePlan"]

BATCH_NBYTES: Final = 4 << 20
"""Bytes of compressed tiles that are fetched as one plan."""
AHEAD: Final = 4
"""Batches under way or waiting, the one being read included."""

Data = bytes | memoryview


class TilePlan:
    """Reads the tiles of one array for one computation.

    Parameters
    ----------
    array
        The lazy array.
    numbers : ndarray of uint32, ascending
        Numbers of the tiles that will be read, each of them once.
    """

    def __init__(self, array: RasterArray, numbers: NDArray[np.uint32]) -> None:
        self.array = array
        self.numbers = numbers
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Data]] = {}
        self._unread: dict[int, int] = {}
        self._finished: set[int] = set()
        self._batches: list[NDArray[np.uint32]] | None = None
        self._starts = np.zeros(0, np.uint32)

    def __reduce__(self) -> tuple[Any, ...]:
        # Steps of a selection are alike: 100,000 numbers become a few hundred bytes.
        steps = np.diff(self.numbers, prepend=np.uint32(0)).astype("<u4")
        return (_unpacked, (self.array, zlib.compress(steps.tobytes())))

    def __repr__(self) -> str:
        return f"<TilePlan of {len(self.numbers)} tiles>"

    def read(self, block: tuple[slice, ...]) -> NDArray[Any]:
        """Read one block of the array, its tiles being among the plan's."""
        return self.array.read_block(block, None if _on_a_cluster() else self._fetch)

    def _fetch(
        self, raster: FlacRaster, position: int, numbers: Sequence[int]
    ) -> Iterator[tuple[int, Data]]:
        """Give the bytes of tiles; the reader's way to ask, see `FlacRaster`."""
        is_local = raster.source.limits.concurrency == 1
        # A local file does not make its readers wait; a mask's tiles are not planned.
        if is_local or position != self.array.position:
            yield from raster.fetch_tiles(position, numbers)
            return
        for k, number in enumerate(numbers):
            yield k, self._take(raster, number)

    def _take(self, raster: FlacRaster, number: int) -> Data:
        with self._lock:
            if self._batches is None:
                self._batches = self._split(raster)
                self._starts = np.array([b[0] for b in self._batches], np.uint32)
            batch = int(np.searchsorted(self._starts, number, "right")) - 1
            for following in range(batch, min(batch + AHEAD, len(self._batches))):
                # One that was read whole is not fetched again for an earlier one.
                if following not in self._finished:
                    self._start(raster, following)
            job = self._waiting.pop(number, None)
            if job is not None:
                self._note_read(batch)
        if job is None:  # read a second time, by a task that is run again
            ((_, data),) = raster.fetch_tiles(self.array.position, [number])
            return data
        return job.result()

    def _split(self, raster: FlacRaster) -> list[NDArray[np.uint32]]:
        """Cut the plan into batches of about `BATCH_NBYTES`."""
        entries = raster.index.lookup(self.array.position, self.numbers.tolist())
        ends = np.cumsum([entry.nbytes for entry in entries])
        batch_of = ends // BATCH_NBYTES
        return np.split(self.numbers, np.flatnonzero(np.diff(batch_of)) + 1)

    def _start(self, raster: FlacRaster, batch: int) -> None:
        """Begin to fetch a batch, unless it is under way or waits to be read."""
        if batch in self._unread or self._batches is None:
            return
        numbers = self._batches[batch].tolist()
        self._unread[batch] = len(numbers)
        jobs: list[Future[Data]] = [Future() for _ in numbers]
        self._waiting.update(zip(numbers, jobs, strict=True))
        threading.Thread(
            target=_fetch_batch,
            args=(raster, self.array.position, numbers, jobs),
            name="flac-raster-fetch",
            daemon=True,
        ).start()

    def _note_read(self, batch: int) -> None:
        """Forget a batch that was read whole, so that a second pass fetches it anew."""
        self._unread[batch] -= 1
        if not self._unread[batch]:
            del self._unread[batch]
            self._finished.add(batch)
        if self._batches is not None and len(self._finished) == len(self._batches):
            self._finished.clear()  # the next computation begins anew


def _unpacked(array: RasterArray, steps: bytes) -> TilePlan:
    numbers = np.cumsum(np.frombuffer(zlib.decompress(steps), "<u4"), dtype=np.uint32)
    return TilePlan(array, numbers)


def _fetch_batch(
    raster: FlacRaster, position: int, numbers: list[int], jobs: list[Future[Data]]
) -> None:
    try:
        for k, data in raster.fetch_tiles(position, numbers):
            jobs[k].set_result(data)
    except BaseException as error:  # noqa: BLE001  (raised again in the tasks that wait)
        for job in jobs:
            if not job.done():
                job.set_exception(error)


def _on_a_cluster() -> bool:
    """Whether this is a task on a dask.distributed worker.

    The scheduler spreads neighbouring tasks over workers, so a worker that fetched
    ahead would fetch what others fetch too.
    """
    worker = sys.modules.get("distributed.worker")
    if worker is None:
        return False
    try:
        worker.get_worker()
    except ValueError:
        return False
    return True
