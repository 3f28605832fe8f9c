"""A file on this machine.

Strategy: one descriptor, `os.pread`, no position, hence no lock. The descriptor keeps
to the file that was opened, also when another is renamed into its place; a file
rewritten in place is noticed by its size and time of modification.
"""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Self

from flac_xarray.errors import SourceChangedError, SourceError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.sources.planned import PlannedSource
from flac_xarray.sources.protocol import FetchLimits, Prefix
from flac_xarray.sources.retrying import SourceNotFoundError

__all__ = ["FileSource"]


class FileSource(PlannedSource):
    """Bytes of a local file; pickles as its path.

    Use `open`; the constructor does no I/O.

    Examples
    --------
    >>> with FileSource.open(__file__) as source:
    ...     bytes(source.read_range(0, 3))
    b'\"\"\"'
    """

    def __init__(self, path: Path, fd: int, token: str, limits: FetchLimits) -> None:
        super().__init__(str(path), limits)
        self._path = path
        self._fd: int | None = fd
        self._token = token
        self._seeking = fork_safe_lock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        limits: FetchLimits | None = None,
        *,
        token: str | None = None,
    ) -> Self:
        """Open a file.

        Parameters
        ----------
        path
            The file; made absolute, so that another process finds it.
        limits
            How to read; `FetchLimits.local` by default.
        token
            What an earlier opening found; another file is refused.

        Raises
        ------
        SourceNotFoundError
            There is no such file.
        SourceError
            It cannot be read, or is a directory.
        SourceChangedError
            It is not the file that `token` belongs to.
        """
        absolute = Path(path).expanduser().absolute()
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            fd = os.open(absolute, flags)
        except FileNotFoundError as error:
            msg = f"{absolute}: there is no such file"
            raise SourceNotFoundError(msg, url=str(absolute)) from error
        except OSError as error:
            msg = f"{absolute}: cannot be opened: {error.strerror}"
            raise SourceError(msg, url=str(absolute)) from error
        stat = os.fstat(fd)
        # From here on the descriptor is closed with the source.
        source = cls(absolute, fd, _token(stat), limits or FetchLimits.local())
        if token is not None and token != source._token:
            raise source._changed(token)
        if S_ISDIR(stat.st_mode):
            msg = f"{absolute}: is a directory"
            raise SourceError(msg, url=str(absolute))
        return source

    @property
    def token(self) -> str:
        """Size and time of modification; see `Prefix.token`."""
        return self._token

    def read_prefix(self, nbytes: int) -> Prefix:
        """Read at most `nbytes` from the start; see `Source.read_prefix`."""
        data = self._read(0, nbytes)
        return Prefix(data, os.fstat(self._descriptor()).st_size, self._token)

    def close(self) -> None:
        """Close the descriptor; reading raises `SourceError` from then on."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        # Sources are handed around and pickled; the last holder need not close.
        if getattr(self, "_fd", None) is not None:
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self._path, self.limits, self._token))

    def _answer(self, start: int, stop: int) -> bytes:
        data = self._read(start, stop)
        if len(data) < stop - start:
            size = os.fstat(self._descriptor()).st_size
            raise self._ends_early(start, stop, size)
        return data

    def _read(self, start: int, stop: int) -> bytes:
        """Read up to `stop` or the end of the file."""
        self.counters.begin()
        pieces: list[bytes] = []
        at = start
        try:
            # One call gives at most 2 GiB on Linux.
            while at < stop and (piece := self._pread(stop - at, at)):
                pieces.append(piece)
                at += len(piece)
        except OSError as error:
            msg = f"{self.name}: bytes [{start}, {stop}): {error.strerror}"
            raise SourceError(msg, url=self.name, start=start, stop=stop) from error
        finally:
            self.counters.end(at - start)
        if self._identify() != self._token:
            raise self._changed(self._token)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pread(self, nbytes: int, offset: int) -> bytes:
        fd = self._descriptor()
        if hasattr(os, "pread"):
            return os.pread(fd, nbytes, offset)
        with self._seeking:  # Windows has a file position only
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, nbytes)

    def _descriptor(self) -> int:
        if self._fd is None:
            msg = f"{self.name}: the source is closed"
            raise SourceError(msg, url=self.name)
        return self._fd

    def _identify(self) -> str:
        return _token(os.fstat(self._descriptor()))

    def _changed(self, before: str) -> SourceChangedError:
        msg = (
            f"{self.name}: the file was replaced or rewritten while it was being read "
            f"(size-mtime was {before}, is {self._identify()}): open it again"
        )
        return SourceChangedError(msg, url=self.name)


def _token(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _reopen(
    cls: type[FileSource], path: Path, limits: FetchLimits, token: str
) -> FileSource:
    return cls.open(path, limits, token=token)
