"""One file that many threads, processes and machines write at once, in place.

Strategy: bytes are encoded without a lock. Then a byte range is claimed at the end of
the file, which takes two system calls under a lock, and written into with ``pwrite``.
The lock is on a small file of its own: POSIX forgets a process's locks on a file when
any of its descriptors for it is closed. A writer that dies lets go of the lock, and
leaves bytes that nothing refers to.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from flac_xarray.errors import SourceError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.part_files import what_is_left
from flac_xarray.sinks import FileSink
from flac_xarray.tile_batch import Part

__all__ = ["FLAGS", "SharedFile", "claimed_end", "locked", "write_at"]

FLAGS: Final = os.O_RDWR | getattr(os, "O_BINARY", 0)
_mutex = fork_safe_lock()


class SharedFile:
    """A file that tasks put bytes into; pickles as its names.

    Parameters
    ----------
    path
        The final name.
    part
        The file that bytes go into until `finish` renames it.
    overwrite
        Whether an existing file may be replaced.
    """

    waits = False
    """Nothing waits: every task's bytes go into the file at once."""

    def __init__(self, path: str, part: str, *, overwrite: bool) -> None:
        self.name = path
        self.part = part
        self.overwrite = overwrite
        self._sink: FileSink | None = None

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, overwrite: bool, reserve: int
    ) -> Self:
        """Begin a file, which this process holds until it ends or calls `release`.

        Raises
        ------
        FileExistsError
            The file exists and `overwrite` is false.
        SourceError
            The folder does not take files, or there are no file locks here.
        """
        # Absolute, so that another process finds it.
        sink = FileSink(Path(path).expanduser().absolute(), overwrite=overwrite)
        file = cls(str(sink.path), str(sink.part), overwrite=overwrite)
        file._sink = sink
        try:
            sink.put(b"\0", reserve - 1)
            with locked(file._claims, create=True):
                pass
        except BaseException:
            file.abort()
            raise
        return file

    def __reduce__(self) -> tuple[Any, ...]:
        # The claim on the part file stays with the process that began it.
        return (partial(type(self), overwrite=self.overwrite), (self.name, self.part))

    @property
    def _claims(self) -> str:
        # `sweep_parts` removes what lies beside a part file under such a name.
        return f"{self.part}.claims"

    def put(self, number: int, data: bytes) -> tuple[Part, int]:
        """Write bytes somewhere; safe from any thread, process or machine.

        Returns
        -------
        Part, int
            The file itself, and the byte at which they begin.

        Raises
        ------
        SourceError
            The disk is full or failing, or the file was finished or given up.
        """
        del number
        try:
            with claimed_end(self.part, self._claims, len(data)) as (fd, start):
                write_at(fd, data, start)
        except OSError as error:
            raise self._failed(error) from error
        return Part(0, len(data)), start

    def finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        """Write the header and make the file appear.

        Raises
        ------
        FileExistsError
            A file of that name has appeared, and `overwrite` is false.
        SourceError
            The disk is full or failing, or the file was finished or given up.
        """
        del parts
        try:
            sink = FileSink.resume(self.name, self.part, overwrite=self.overwrite)
        except OSError as error:
            raise self._failed(error) from error
        try:
            sink.put(head, 0)
            sink.commit()
        finally:
            sink.close()

    def end(self) -> int:
        """Let nobody claim bytes any more; give the size of the file.

        Raises
        ------
        SourceError
            The file was finished or given up.
        """
        try:
            with locked(self._claims, create=False):
                Path(self._claims).unlink()
                return Path(self.part).stat().st_size
        except OSError as error:
            raise self._failed(error) from error

    def abort(self) -> None:
        """Leave nothing behind, where this process began the file."""
        with contextlib.suppress(OSError):
            Path(self._claims).unlink()
        if self._sink is not None:
            self._sink.abort()

    def release(self) -> None:
        """Hold the part file no longer."""
        if self._sink is not None:
            self._sink.close()

    def _failed(self, error: OSError) -> SourceError:
        why = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            why = (
                f"the unfinished {self.part} is gone: it was finished already, given "
                "up, or swept after its process had ended; write again"
            )
        msg = f"cannot write {self.name}: {why}; {what_is_left(self.name)}"
        return SourceError(msg, url=self.name, errno=error.errno)


@contextlib.contextmanager
def claimed_end(
    path: str, claims: str, nbytes: int, *, create: bool = False
) -> Iterator[tuple[int, int]]:
    """Claim bytes at the end of a file.

    Parameters
    ----------
    path
        The file.
    claims
        The file whose lock guards its end.
    nbytes
        How many bytes.
    create
        Whether that file is made where there is none. Tasks that outlive a write that
        was given up must not leave one behind.

    Yields
    ------
    int, int
        A descriptor, and the first byte that is now the caller's.
    """
    with locked(claims, create=create):
        # Opened under the lock: then a network file system asks for the size anew.
        fd = os.open(path, FLAGS)
        try:
            start = os.fstat(fd).st_size
            os.ftruncate(fd, start + nbytes)
        except BaseException:
            os.close(fd)
            raise
    try:
        yield fd, start
    finally:
        os.close(fd)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all bytes at an offset."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


@contextlib.contextmanager
def locked(claims: str, *, create: bool) -> Iterator[None]:
    """Hold the lock of a file, among threads, processes and machines."""
    try:
        import fcntl
    except ImportError as error:
        msg = f"{claims}: this system has no file locks: write with one process"
        raise SourceError(msg, url=claims) from error
    flags = FLAGS | (os.O_CREAT if create else 0)
    with _mutex:
        while True:
            fd = os.open(claims, flags, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:  # else somebody removed it meanwhile
                    yield
                    return
            finally:
                # Closing does not let go of it while a forked child has a copy.
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)
