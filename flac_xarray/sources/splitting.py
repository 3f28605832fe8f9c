"""A request's bytes cut into its parts while they arrive.

Strategy: pure bookkeeping. Pieces of a body go in, in order; a part goes out as soon as
its last byte is there, in memory of its own, so that a tile is decoded while the next
ones are under way and holds none of them. After a failure only what did not go out has
to be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable

from flac_xarray.ranges import Request

__all__ = ["Emit", "PartSplitter"]

Emit = Callable[[tuple[int, memoryview]], None]


class PartSplitter:
    """Cuts one request's bytes.

    Parameters
    ----------
    request
        What was asked for.
    emit
        Called with each part's item and bytes, once.

    Examples
    --------
    >>> from flac_xarray.ranges import Part
    >>> parts = []
    >>> request = Request(10, 16, (Part(0, 0, 2), Part(1, 3, 3)))
    >>> splitter = PartSplitter(
    ...     request, lambda part: parts.append((part[0], bytes(part[1])))
    ... )
    >>> splitter.feed(b"abcd")
    >>> splitter.restart(), parts
    (13, [(0, b'ab')])
    >>> splitter.feed(b"def")
    >>> parts
    [(0, b'ab'), (1, b'def')]
    """

    def __init__(self, request: Request, emit: Emit) -> None:
        self._request = request
        self._emit = emit
        self._unfilled = list(request.parts)
        self._buffers: dict[int, bytearray] = {}
        self._at = 0

    def restart(self) -> int:
        """Begin anew; give the first byte of the file that is needed."""
        self._buffers.clear()
        self._at = min((p.offset for p in self._unfilled), default=self._request.nbytes)
        return self._request.start + self._at

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(piece)
        start, stop = self._at, self._at + len(view)
        filled = []
        for part in self._unfilled:  # in order of offset
            if part.offset >= stop:
                break
            end = part.offset + part.nbytes
            lo, hi = max(start, part.offset), min(stop, end)
            if lo < hi:
                if part.item not in self._buffers:
                    self._buffers[part.item] = bytearray(part.nbytes)
                at = lo - part.offset
                self._buffers[part.item][at : at + hi - lo] = view[
                    lo - start : hi - start
                ]
            if hi == end:
                filled.append(part)
        for part in filled:
            self._unfilled.remove(part)
            data = memoryview(self._buffers.pop(part.item)).toreadonly()
            self._emit((part.item, data))
        self._at = stop
