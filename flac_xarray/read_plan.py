"""What reading will take, what it has taken, and the threads that do it.

Strategy: values that say what a read is about, and one loop that hands bytes to
threads as they arrive, a bounded number ahead, so that fetching and decoding overlap.
The loop's own thread works too when the others have enough to do, or are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from flac_xarray.crew import Crew
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
) -> int:
    """Call `use` with everything that arrives, in so many threads.

    Parameters
    ----------
    arriving
        Places and bytes; consumed in this thread.
    use
        Called once each; what it raises is raised here.
    threads
        How many work, this one among them.

    Returns
    -------
    int
        How much arrived.
    """
    n_arrived = 0
    if threads <= 1:
        for k, data in arriving:
            use(k, data)
            n_arrived += 1
        return n_arrived
    crew: Crew[object] = Crew(threads - 1)
    with crew:
        for k, data in arriving:
            crew.put(use, k, data)
            n_arrived += 1
            del data  # the job's now, and gone when it is done
            if len(crew) >= threads * IN_FLIGHT:
                crew.take()
        while len(crew):
            crew.take()
    return n_arrived
