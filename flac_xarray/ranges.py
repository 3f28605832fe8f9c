"""The plan of range requests: which bytes to ask for together.

Strategy: pure integers. Callers say which byte ranges they need; `plan_requests`
returns values that say what to request and where each caller's range lies in each
answer. Nothing here performs a request, and every knob is required: the defaults
have one owner, `flac_xarray.sources.FetchLimits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["ByteRange", "Part", "Request", "plan_requests"]


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """A half-open range of bytes of one file.

    Raises
    ------
    ValueError
        Unless ``0 <= start <= stop``.

    Examples
    --------
    >>> ByteRange(10, 14).nbytes
    4
    """

    start: int
    """First byte."""
    stop: int
    """One past the last byte."""

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            msg = f"byte range [{self.start}, {self.stop}): expected 0 <= start <= stop"
            raise ValueError(msg)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Part:
    """Where one of the caller's ranges lies in a request's answer."""

    item: int
    """Position of the range in the caller's sequence."""
    offset: int
    """First byte of the range, counted from the start of the answer."""
    nbytes: int
    """Length of the range; at least 1."""


@dataclass(frozen=True, slots=True)
class Request:
    """One range to ask for, and what it answers.

    Every part lies inside the request, and the first and last byte of the request
    belong to some part.
    """

    start: int
    """First byte of the file to ask for."""
    stop: int
    """One past the last byte to ask for."""
    parts: tuple[Part, ...]
    """What the caller wants out of it, in order of offset."""

    @property
    def nbytes(self) -> int:
        """Number of bytes to transfer, gaps included."""
        return self.stop - self.start


def plan_requests(
    ranges: Sequence[ByteRange], *, gap: int, max_request: int
) -> tuple[Request, ...]:
    """Merge byte ranges into as few requests as the limits allow.

    Parameters
    ----------
    ranges
        What the caller needs, in any order; may overlap and repeat.
    gap
        Merge neighbours with at most this many unwanted bytes between them.
    max_request
        Merge only while the result has at most this many bytes. A single range that
        is larger stays one request.

    Returns
    -------
    tuple of Request
        In order of start. Each range with at least one byte is a part of exactly one
        request; ranges without bytes are in none.

    Raises
    ------
    ValueError
        `gap` is negative or `max_request` is not positive.

    Examples
    --------
    >>> plan = plan_requests(
    ...     [ByteRange(50, 60), ByteRange(0, 10), ByteRange(12, 20)],
    ...     gap=4,
    ...     max_request=100,
    ... )
    >>> [(r.start, r.stop, [p.item for p in r.parts]) for r in plan]
    [(0, 20, [1, 2]), (50, 60, [0])]
    """
    if gap < 0 or max_request < 1:
        msg = f"gap={gap}, max_request={max_request}: expected gap >= 0 and a size >= 1"
        raise ValueError(msg)
    requests: list[Request] = []
    items: list[int] = []
    start = stop = 0
    for item in _in_order(ranges):
        wanted = ranges[item]
        inside = wanted.stop <= stop
        near = wanted.start - stop <= gap and wanted.stop - start <= max_request
        if items and (inside or near):
            items.append(item)
            stop = max(stop, wanted.stop)
            continue
        if items:
            requests.append(_request(start, stop, items, ranges))
        items, start, stop = [item], wanted.start, wanted.stop
    if items:
        requests.append(_request(start, stop, items, ranges))
    return tuple(requests)


def _in_order(ranges: Sequence[ByteRange]) -> Iterable[int]:
    """Positions by start; of equal starts the longest first, so it holds the others."""
    full = (item for item, wanted in enumerate(ranges) if wanted.nbytes)
    return sorted(full, key=lambda item: (ranges[item].start, -ranges[item].stop))


def _request(
    start: int, stop: int, items: Sequence[int], ranges: Sequence[ByteRange]
) -> Request:
    parts = tuple(
        Part(item, ranges[item].start - start, ranges[item].nbytes) for item in items
    )
    return Request(start, stop, parts)
