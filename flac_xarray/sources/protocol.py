"""What a source is: the protocol, and the values that go in and come out.

Strategy: the reader knows this module only. `FetchLimits` owns every default of
fetching; `Counters` is what `fr.stats` shows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from flac_xarray.forking import fork_safe_lock
from flac_xarray.ranges import ByteRange, Request, plan_requests

__all__ = ["Counters", "FetchLimits", "FetchStats", "Prefix", "Source"]

KB = 1024
MB = 1024 * KB


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first bytes of a file, and what their answer said about it."""

    data: bytes | memoryview
    """At most as many bytes as were asked for; fewer only when the file ends."""
    size: int | None
    """Bytes of the whole file; None when the answer does not say."""
    token: str | None
    """Changes when the file changes (ETag, Last-Modified, size and mtime), or None."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How a source fetches; the defaults suit a remote store.

    Raises
    ------
    ValueError
        A limit is out of its range.
    """

    gap: int = 256 * KB
    """Bytes: merge neighbours this near, when there are more than `concurrency`."""
    max_request: int = 8 * MB
    """Bytes: do not merge beyond this size."""
    concurrency: int = 32
    """Requests in flight or waiting for the consumer, per read."""
    buffer: int = 64 * MB
    """Bytes in flight or waiting for the consumer, per read; one request always may."""
    spare_connections: int = 3
    """Connections to a web server that opening a file makes beside its own."""
    timeout: float = 30.0
    """Seconds without a byte after which an attempt fails."""
    retries: int = 4
    """Further attempts after a transient failure."""
    backoff: float = 0.1
    """Seconds before the first retry; doubles each time, with jitter."""
    whole_file: int = 8 * MB
    """Bytes: a server that ignores Range may send a file of this size whole."""

    def __post_init__(self) -> None:
        least = {
            "gap": self.gap,
            "retries": self.retries,
            "backoff": self.backoff,
            "whole_file": self.whole_file,
            "max_request": self.max_request - 1,
            "concurrency": self.concurrency - 1,
            "buffer": self.buffer,
            "spare_connections": self.spare_connections,
        }
        wrong = [name for name, value in least.items() if value < 0]
        if wrong or self.timeout <= 0:
            msg = f"limits out of range: {', '.join(wrong or ['timeout'])}"
            raise ValueError(msg)

    @classmethod
    def local(cls) -> Self:
        """Limits of a file on this machine: no gaps, one read after the other."""
        return cls(gap=0, concurrency=1, retries=0, spare_connections=0)

    def plan(self, ranges: Sequence[ByteRange]) -> tuple[Request, ...]:
        """Plan the requests for `ranges`.

        Requests that fly together cost one round trip, so unwanted bytes are fetched
        only when merging adjacent ranges alone would leave more than `concurrency`.

        Examples
        --------
        >>> rows = [ByteRange(start, start + 10) for start in (0, 10, 100, 110)]
        >>> [r.nbytes for r in FetchLimits().plan(rows)]
        [20, 20]
        >>> [r.nbytes for r in FetchLimits(concurrency=1).plan(rows)]
        [120]
        """
        exact = plan_requests(ranges, gap=0, max_request=self.max_request)
        if len(exact) <= self.concurrency or not self.gap:
            return exact
        return plan_requests(ranges, gap=self.gap, max_request=self.max_request)

    def deadline(self, nbytes: int) -> float:
        """Seconds one attempt may take in all, for an answer of `nbytes`.

        A server that trickles must not hold a reader for ever; 100 KB/s is granted.
        """
        return 10 * self.timeout + nbytes / (100 * KB)


@dataclass(frozen=True, slots=True)
class FetchStats:
    """What a source has done so far."""

    requests: int
    """Attempts made, retries included."""
    bytes: int
    """Bytes received, those of failed attempts included."""
    retries: int
    """Attempts that repeated a failed one."""
    seconds: float
    """Time during which at least one request was under way."""


class Counters:
    """Count requests, from any thread.

    Examples
    --------
    >>> counters = Counters()
    >>> counters.begin()
    >>> counters.end(nbytes=10)
    >>> counters.requests, counters.bytes, counters.retries
    (1, 10, 0)
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._requests = self._bytes = self._retries = self._active = 0
        self._seconds = self._since = 0.0

    def begin(self) -> None:
        """Note that a request starts."""
        with self._lock:
            if not self._active:
                self._since = time.perf_counter()
            self._active += 1
            self._requests += 1

    def end(self, nbytes: int) -> None:
        """Note that a request is over, whatever came of it.

        Parameters
        ----------
        nbytes
            Bytes of body that were received.
        """
        with self._lock:
            self._active -= 1
            self._bytes += nbytes
            if not self._active:
                self._seconds += time.perf_counter() - self._since

    def retry(self) -> None:
        """Note that the next request repeats a failed one."""
        with self._lock:
            self._retries += 1

    def snapshot(self) -> FetchStats:
        """Give all counts at one moment."""
        with self._lock:
            seconds = self._seconds
            if self._active:
                seconds += time.perf_counter() - self._since
            return FetchStats(self._requests, self._bytes, self._retries, seconds)

    @property
    def requests(self) -> int:
        """Attempts made, retries included."""
        return self.snapshot().requests

    @property
    def bytes(self) -> int:
        """Bytes received."""
        return self.snapshot().bytes

    @property
    def retries(self) -> int:
        """Attempts that repeated a failed one."""
        return self.snapshot().retries

    @property
    def seconds(self) -> float:
        """Time during which at least one request was under way."""
        return self.snapshot().seconds

    def __repr__(self) -> str:
        return repr(self.snapshot()).replace("FetchStats", "Counters")


@runtime_checkable
class Source(Protocol):
    """Bytes of one file, by range."""

    name: str
    """URL or path, without credentials, query or fragment."""

    @property
    def limits(self) -> FetchLimits:
        """How it fetches."""
        ...

    @property
    def counters(self) -> Counters:
        """What it has done so far."""
        ...

    def read_prefix(self, nbytes: int) -> Prefix:
        """Read at most `nbytes` from the start of the file, in one request.

        Raises
        ------
        SourceError
            The bytes cannot be had. A file that is shorter is no error.
        """
        ...

    def read_ranges(
        self, ranges: Sequence[ByteRange]
    ) -> Iterator[tuple[int, memoryview]]:
        """Read many ranges, concurrently; closing the iterator cancels the rest.

        Yields
        ------
        position : int
            Of the range in `ranges`; each occurs once, in order of arrival.
        data : memoryview
            Exactly the bytes of that range.

        Raises
        ------
        SourceError
            Bytes cannot be had; the remaining requests are cancelled.
        SourceChangedError
            The file was replaced since this source first answered.
        """
        ...

    def read_range(self, start: int, stop: int) -> bytes | memoryview:
        """Read exactly the bytes from `start` up to `stop`.

        Raises
        ------
        SourceError
            Bytes cannot be had, or the file ends before `stop`.
        """
        ...

    def close(self) -> None:
        """Let go of what the source holds open."""
        ...
