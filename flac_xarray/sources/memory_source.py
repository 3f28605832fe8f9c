"""Bytes in memory, and file-like objects of unknown kind.

Strategy: memory is never copied. A file-like object has one position, so it is used
under a lock; the caller's own is not closed.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from flac_xarray.errors import SourceError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.sources.planned import PlannedSource
from flac_xarray.sources.protocol import FetchLimits, Prefix

__all__ = ["FileObjectSource", "MemorySource"]


class MemorySource(PlannedSource):
    """A bytes-like object as a source.

    Examples
    --------
    >>> source = MemorySource(b"abcdef")
    >>> bytes(source.read_range(2, 4)), source.read_prefix(10).size
    (b'cd', 6)
    """

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        limits: FetchLimits | None = None,
        *,
        name: str = "<memory>",
    ) -> None:
        super().__init__(name, limits or FetchLimits.local())
        self._view = memoryview(data).cast("B").toreadonly()

    def read_prefix(self, nbytes: int) -> Prefix:
        """Give at most `nbytes` from the start; see `Source.read_prefix`."""
        return Prefix(self._slice(0, nbytes), len(self._view), None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (bytes(self._view), self.limits))

    def _answer(self, start: int, stop: int) -> memoryview:
        if stop > len(self._view):
            raise self._ends_early(start, stop, len(self._view))
        return self._slice(start, stop)

    def _slice(self, start: int, stop: int) -> memoryview:
        self.counters.begin()
        part = self._view[start:stop]
        self.counters.end(len(part))
        return part


class FileObjectSource(PlannedSource):
    """An open binary file of any kind that can seek; positions count from its start.

    Pickles where the object does.

    Parameters
    ----------
    file
        What to read.
    limits
        How to read; `FetchLimits.local` by default.
    owned
        Whether `close` closes the file too.
    """

    def __init__(
        self,
        file: BinaryIO,
        limits: FetchLimits | None = None,
        *,
        owned: bool = False,
    ) -> None:
        named = getattr(file, "name", None)
        name = named if isinstance(named, str) else f"<{type(file).__name__}>"
        super().__init__(name, limits or FetchLimits.local())
        self._file = file
        self._owned = owned
        self._lock = fork_safe_lock()

    def read_prefix(self, nbytes: int) -> Prefix:
        """Read at most `nbytes` from the start; see `Source.read_prefix`."""
        data = self._read(0, nbytes)
        return Prefix(data, len(data) if len(data) < nbytes else None, None)

    def close(self) -> None:
        """Close the file if it is this source's own."""
        if self._owned:
            self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._file, self.limits))

    def _answer(self, start: int, stop: int) -> bytes:
        data = self._read(start, stop)
        if len(data) < stop - start:
            raise self._ends_early(start, stop, start + len(data))
        return data

    def _read(self, start: int, stop: int) -> bytes:
        """Read up to `stop` or the end of the file."""
        data = b""
        with self._lock:
            self.counters.begin()
            try:
                self._file.seek(start)
                # A raw file may give less than it has: only b"" is the end.
                while piece := self._file.read(stop - start - len(data)):
                    data += piece
                    if len(data) >= stop - start:
                        break
            except (OSError, ValueError) as error:  # ValueError: closed
                msg = f"{self.name}: bytes [{start}, {stop}): {error}"
                raise SourceError(msg, url=self.name, start=start, stop=stop) from error
            finally:
                self.counters.end(len(data))
        return data
