"""The part that all sources share: plan, fetch, cut the answers into the ranges.

Strategy: a subclass says how one request is answered (`_answer`), or, when it can do
several at once, how a plan is (`_fetch`). After a fork every live source in the child
forgets its connections, which belong to the parent (`forking`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Self

from flac_xarray.errors import SourceError
from flac_xarray.forking import renew_after_fork
from flac_xarray.ranges import ByteRange, Part, Request
from flac_xarray.sources.protocol import Counters, FetchLimits, Prefix

__all__ = ["PlannedSource", "cut"]


class PlannedSource(ABC):
    """Base of the sources; implements `Source` on top of single requests.

    Parameters
    ----------
    name
        What to show: no credentials.
    limits
        How to fetch.
    """

    def __init__(self, name: str, limits: FetchLimits) -> None:
        self.name = name
        self.limits = limits
        self.counters = Counters()
        renew_after_fork(self)

    @property
    def token(self) -> str | None:
        """What answers so far said of the version of the file; see `Prefix.token`."""
        return None

    def begin_prefix(self, nbytes: int) -> None:  # noqa: B027 - most answer at once
        """Start what `read_prefix` of as many bytes will give, without waiting."""

    @abstractmethod
    def read_prefix(self, nbytes: int) -> Prefix:
        """Read at most `nbytes` from the start of the file."""

    @abstractmethod
    def _answer(self, start: int, stop: int) -> bytes | memoryview:
        """Read one range; exactly ``stop - start >= 1`` bytes or `SourceError`."""

    def _fetch(
        self, requests: Sequence[Request]
    ) -> Generator[tuple[int, memoryview], None, None]:
        """Give the parts of a plan's requests, in any order; here one by one."""
        for request in requests:
            data = memoryview(self._answer(request.start, request.stop))
            yield from cut(request.parts, data)

    def read_ranges(
        self, ranges: Sequence[ByteRange]
    ) -> Iterator[tuple[int, memoryview]]:
        """Read many ranges; see `Source.read_ranges`."""
        ranges = tuple(ranges)
        for position, wanted in enumerate(ranges):
            if not wanted.nbytes:
                yield position, memoryview(b"")
        with closing(self._fetch(self.limits.plan(ranges))) as answers:
            yield from answers

    def read_range(self, start: int, stop: int) -> bytes | memoryview:
        """Read exactly the bytes from `start` up to `stop`; see `Source.read_range`."""
        wanted = ByteRange(start, stop)
        return self._answer(start, stop) if wanted.nbytes else b""

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Let go of what the source holds open; here nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def after_fork(self) -> None:
        """Count anew in a forked child, where nothing is under way."""
        self.counters = Counters()

    def _ends_early(self, start: int, stop: int, size: int) -> SourceError:
        msg = f"{self.name}: bytes [{start}, {stop}) are wanted, the file has {size}"
        return SourceError(msg, url=self.name, start=start, stop=stop)


def cut(parts: Iterable[Part], view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Give each part's item, and its bytes out of its request's."""
    for part in parts:
        yield part.item, view[part.offset : part.offset + part.nbytes]
