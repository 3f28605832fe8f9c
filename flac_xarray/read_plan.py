"""What reading will take, what it has taken, and the threads that do it.

Strategy: values that say what a read is about, and one loop that hands bytes to
threads as they arrive, a bounded number ahead, so that fetching and decoding overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from flac_xarray.grid import TileCut
from flac_xarray.ranges import ByteRange
from flac_xarray.tile_table import TileEntry

__all__ = ["ReadPlan", "ReadStats", "run_on_arrival"]

IN_FLIGHT: Final = 2
"""Tiles waiting for each decoding thread: fetching stays ahead, memory bounded."""

Data = bytes | memoryview


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What a selection will read, before anything is read."""

    cuts: tuple[TileCut, ...]
    """The tiles, in C order, empty ones included."""
    entries: tuple[TileEntry, ...]
    """Their table rows."""
    requests: tuple[ByteRange, ...]
    """Byte ranges after merging neighbours."""

    @property
    def tile_nbytes(self) -> int:
        """Bytes of the tiles themselves."""
        return sum(e.nbytes for e in self.entries)

    @property
    def request_nbytes(self) -> int:
        """Bytes that the requests move, gaps included."""
        return sum(r.stop - r.start for r in self.requests)


@dataclass(frozen=True, slots=True)
class ReadStats:
    """What an open raster has done so far."""

    requests: int
    """Requests, or reads of a local file; retries included."""
    nbytes: int
    """Bytes that arrived."""
    retries: int
    """Requests that repeated a failed one."""
    seconds: float
    """Time during which at least one request was under way."""
    cache_hits: int
    """Tiles that came decoded from the cache."""
    cache_misses: int
    """Tiles that were looked for there in vain."""
    cache_nbytes: int
    """Bytes of pixels in the cache."""


def run_on_arrival(
    arriving: Iterable[tuple[int, Data]],
    use: Callable[[int, Data], object],
    threads: int,
) -> None:
    """Call `use` with everything that arrives, in so many threads.

    Parameters
    ----------
    arriving
        Places and bytes; consumed in this thread.
    use
        Called once each; what it raises is raised here.
    threads
        1 or less works in this thread.
    """
    if threads <= 1:
        for k, data in arriving:
            use(k, data)
        return
    with ThreadPoolExecutor(threads, "flac-raster-decode") as pool:
        waiting: set[Future[object]] = set()
        for k, data in arriving:
            waiting.add(pool.submit(use, k, data))
            if len(waiting) >= threads * IN_FLIGHT:
                waiting = _settle(waiting)
        while waiting:
            waiting = _settle(waiting)


def _settle(waiting: set[Future[object]]) -> set[Future[object]]:
    """Wait for one job at least; raise what a job raised."""
    done, rest = wait(waiting, return_when=FIRST_COMPLETED)
    for job in done:
        job.result()
    return rest
