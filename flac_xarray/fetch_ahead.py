"""Tiles fetched in batches ahead of whoever reads them one by one.

Strategy: the tiles that will be read are known, in what order is not: dask reads
forwards, backwards, or jumps. They are cut into batches of neighbours. When a batch is
first asked for, it and those that lie ahead of it, the way the reader is going, are
fetched in the background, and their tiles wait, compressed, to be taken. Enough are
under way to fill a link (`FLYING_NBYTES`), the next begins when one has ended, and a
bounded amount waits (`WINDOW_NBYTES`). No tile is fetched twice in one pass and none
that is not wanted. A reader that takes a little of every batch would make all of them
wait at once; beyond `MAX_WAITING_NBYTES` it gets its tiles one at a time. Where there
is no thread, or it has died, whoever needs a tile fetches it himself.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.crew import start_thread
from flac_xarray.forking import fork_safe_lock, renew_after_fork

if TYPE_CHECKING:
    from flac_xarray.reader import FlacRaster

__all__ = ["FetchAhead"]

BATCH_NBYTES: Final = 2 << 20
"""Bytes of compressed tiles that are fetched as one plan."""
FLYING_NBYTES: Final = 24 << 20
"""Batches are started ahead while fewer bytes than these are under way."""
WINDOW_NBYTES: Final = 64 << 20
"""Batches are started ahead while fewer bytes than these are under way or wait."""
MAX_WAITING_NBYTES: Final = 128 << 20
"""Bytes that may wait in all, however the tiles are read."""

LOOK_SECONDS: Final = 5.0
"""After how long without a tile its reader looks whether somebody fetches it."""

Data = bytes | memoryview
Fetch = Callable[[Sequence[int]], Iterator[tuple[int, Data]]]


class _Batch:
    """Tiles that are fetched together, once, by whoever claims them first."""

    def __init__(self, numbers: Sequence[int], nbytes: int) -> None:
        self.numbers = numbers
        self.nbytes = nbytes
        self.jobs: list[Future[Data]] = [Future() for _ in numbers]
        self._claim = threading.Lock()
        self._has_ended = False

    def fetch(self, fetch: Fetch) -> bool:
        """Fetch the tiles, unless somebody has begun to; errors are the jobs'.

        Returns
        -------
        bool
            Whether they are all here by it.
        """
        is_mine = False
        try:
            is_mine = self._claim.acquire(blocking=False)
            if is_mine:
                for k, data in fetch(self.numbers):
                    self.jobs[k].set_result(data)
        except BaseException as error:  # noqa: BLE001 - raised again in who waits
            for job in self.jobs:
                if not job.done():
                    job.set_exception(error)
            return False
        finally:
            self._has_ended = is_mine or self._has_ended
        return is_mine

    def result(self, k: int, fetch: Fetch) -> Data:
        """Wait for a tile."""
        job = self.jobs[k]
        while not wait((job,), LOOK_SECONDS).done:
            self.fetch(fetch)  # where the thread died before it began
            if self._has_ended and not job.done():  # or before it could say so
                ((_, data),) = fetch([self.numbers[k]])
                return data
        return job.result()


class FetchAhead:
    """The tiles of one array that will be read, and how often each.

    Parameters
    ----------
    position
        Which of `Header.arrays`.
    uses
        How often each tile number will be taken.
    """

    def __init__(self, position: int, uses: Mapping[int, int]) -> None:
        self.position = position
        self.uses = uses
        self._lock = fork_safe_lock()
        self._batches: list[NDArray[np.uint32]] = []
        self._starts = np.zeros(0, np.uint32)
        self._nbytes: dict[int, int] = {}
        self._flying_nbytes = 0
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        """Forget what was read: a second pass fetches anew."""
        self._left = Counter(self.uses)
        self._jobs: dict[int, tuple[_Batch, int]] = {}
        self._waiting_nbytes = 0
        self._unstarted = set(range(len(self._batches)))
        self._reached: set[int] = set()
        self._last: int | None = None
        self._step = 0

    def after_fork(self) -> None:
        """Fetch anew in a forked child: the threads that did are the parent's."""
        self._flying_nbytes = 0
        self._begin()

    @property
    def waiting_nbytes(self) -> int:
        """Bytes of tiles that are under way or wait to be taken."""
        return self._waiting_nbytes

    def take(
        self, raster: FlacRaster, numbers: Sequence[int]
    ) -> Iterator[tuple[int, Data]]:
        """Give the bytes of tiles, waiting for them if need be.

        Parameters
        ----------
        raster
            Where to fetch.
        numbers
            The tiles; those that were not announced, or are read once more than that,
            are fetched by themselves.

        Yields
        ------
        int, bytes-like
            Place in `numbers`, and the tile's bytes.
        """
        with self._lock:
            if not self._batches:
                self._split(raster)
            jobs = []
            for number in numbers:
                if self._left[number]:
                    self._go_to(raster, number)
                jobs.append(self._taken(number))
        alone = [k for k, job in enumerate(jobs) if job is None]
        if alone:
            found = raster.fetch_tiles(self.position, [numbers[k] for k in alone])
            for place, data in found:
                yield alone[place], data
        fetch = partial(raster.fetch_tiles, self.position)
        for k, job in enumerate(jobs):
            if job is not None:
                batch, place = job
                yield k, batch.result(place, fetch)

    def _split(self, raster: FlacRaster) -> None:
        """Cut the tiles into batches of about `BATCH_NBYTES`."""
        numbers = np.array(sorted(self.uses), np.uint32)
        entries = raster.index.lookup(self.position, numbers.tolist())
        nbytes = [entry.nbytes for entry in entries]
        batch_of = np.cumsum(nbytes) // BATCH_NBYTES
        self._batches = np.split(numbers, np.flatnonzero(np.diff(batch_of)) + 1)
        self._starts = np.array([b[0] for b in self._batches], np.uint32)
        self._nbytes = dict(zip(numbers.tolist(), nbytes, strict=True))
        self._unstarted = set(range(len(self._batches)))

    def _go_to(self, raster: FlacRaster, number: int) -> None:
        """Start the batch of a tile, unless it was, and those that lie ahead of it."""
        batch = int(np.searchsorted(self._starts, number, "right")) - 1
        # Threads read several batches by turns: only a new one tells the way.
        if batch not in self._reached:
            self._reached.add(batch)
            if self._last is not None:
                self._step = 1 if batch > self._last else -1
            self._last = batch
        if batch in self._unstarted and self._waiting_nbytes < MAX_WAITING_NBYTES:
            self._start(raster, batch)
        self._top_up(raster)

    def _top_up(self, raster: FlacRaster) -> None:
        """Start the batches that lie ahead, as far as the limits go."""
        for following in self._onwards(self._last or 0):
            if (
                not self._unstarted
                or self._flying_nbytes >= FLYING_NBYTES
                or self._waiting_nbytes >= WINDOW_NBYTES
            ):
                return
            if following in self._unstarted and not self._start(raster, following):
                return

    def _onwards(self, batch: int) -> Iterator[int]:
        """Give the other batches: those ahead, then those behind, the nearest first.

        While it is not known which way is ahead, it is both by turns.
        """
        above = range(batch + 1, len(self._batches))
        below = range(batch - 1, -1, -1)
        if not self._step:
            by_turns = itertools.zip_longest(above, below)
            return (k for pair in by_turns for k in pair if k is not None)
        return itertools.chain(*((above, below) if self._step > 0 else (below, above)))

    def _start(self, raster: FlacRaster, number: int) -> bool:
        """Begin to fetch what is left of a batch; false where there is no thread."""
        numbers = [n for n in self._batches[number].tolist() if self._left[n]]
        if numbers:  # else all were taken one at a time
            batch = _Batch(numbers, sum(self._nbytes[n] for n in numbers))
            if not start_thread(partial(self._fetch, raster, batch)):
                return False
            self._waiting_nbytes += batch.nbytes
            self._flying_nbytes += batch.nbytes
            self._jobs.update((n, (batch, k)) for k, n in enumerate(numbers))
        self._unstarted.remove(number)
        return True

    def _fetch(self, raster: FlacRaster, batch: _Batch) -> None:
        """Fetch a batch, then see to the next: a thread's whole life."""
        is_here = batch.fetch(partial(raster.fetch_tiles, self.position))
        with self._lock:
            self._flying_nbytes -= batch.nbytes
            if is_here and self._last is not None:  # else the pass is over
                self._top_up(raster)

    def _taken(self, number: int) -> tuple[_Batch, int] | None:
        """Count a tile as read, and give its fetch; None when it has none."""
        if not self._left[number]:
            return None
        job = self._jobs.get(number)
        self._left[number] -= 1
        if not self._left[number]:
            del self._left[number]
            if self._jobs.pop(number, None) is not None:
                self._waiting_nbytes -= self._nbytes[number]
            if not self._left:
                self._begin()
        return job
