"""Where a writer's bytes go: whole under the final name, or not at all.

Strategy: bytes are put at claimed offsets of a part file beside the target, by any
number of threads; `commit` fsyncs and renames, `abort` removes. A remote target is
written to a local part file first and uploaded whole on `commit`: object stores show an
object only when its upload is complete. What a killed process leaves, the next writer
to the same target removes (`part_files`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, Self

from flac_xarray.errors import SourceError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.part_files import (
    claim_part,
    settle_part,
    sweep_parts,
    what_is_left,
)
from flac_xarray.remote_target import RemoteTarget

__all__ = ["FileSink", "MemorySink", "Sink", "UploadSink", "open_sink"]

FLAGS: Final = os.O_RDWR | getattr(os, "O_BINARY", 0)


class Sink(Protocol):
    """Bytes at offsets, then `commit` or `abort`."""

    name: str
    """What the target is called in messages."""

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset; safe from several threads."""

    def commit(self) -> None:
        """Make the whole file appear under its name."""

    def abort(self) -> None:
        """Leave nothing behind."""


class MemorySink:
    """A file in memory; `value` after `commit`."""

    def __init__(self) -> None:
        self.name = "<memory>"
        self.value = b""
        self._buffer = bytearray()
        self._lock = fork_safe_lock()

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset."""
        stop = offset + len(data)
        with self._lock:
            if stop > len(self._buffer):
                self._buffer.extend(bytes(stop - len(self._buffer)))
            self._buffer[offset:stop] = data

    def commit(self) -> None:
        """Freeze the bytes into `value`."""
        self.value = bytes(self._buffer)

    def abort(self) -> None:
        """Forget the bytes."""
        self._buffer.clear()


class FileSink:
    """A local file, written beside its final name and renamed.

    Parameters
    ----------
    path
        The final name. Of a link, what it points to is replaced, and it stays.
    overwrite
        Whether an existing file may be replaced; its permissions and owner stay.
    private
        Whether nobody else may read it, and no link is followed.

    Raises
    ------
    FileExistsError
        The file exists and `overwrite` is false; checked again on `commit`.
    SourceError
        The folder does not take files, or the path is a folder, a device or a pipe.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        private: bool = False,
    ) -> None:
        self.path = Path(path)
        self.name = str(self.path)
        self.overwrite = overwrite
        self._pid = os.getpid()
        is_there = os.path.lexists(self.path)
        replaced = None
        if not private:
            replaced = _replaced(self.path)
            if self.path.is_symlink():
                self.path = Path(os.path.realpath(self.path))
        sweep_parts(self.path)
        if is_there and not overwrite:
            raise _exists(self.name)
        try:
            self._fd, self.part = claim_part(self.path, 0o600 if private else 0o666)
        except OSError as error:
            msg = f"cannot write {self.name}: {error.strerror}"
            raise SourceError(msg, url=self.name, errno=error.errno) from error
        if replaced is not None and os.name == "posix":
            with contextlib.suppress(OSError):  # only root gives files away
                os.fchown(self._fd, replaced.st_uid, replaced.st_gid)
            with contextlib.suppress(OSError):  # not every file system has permissions
                os.fchmod(self._fd, replaced.st_mode & 0o777)

    @classmethod
    def resume(cls, path: str, part: str, *, overwrite: bool) -> Self:
        """Go on with a part file that another process began and still holds.

        Raises
        ------
        OSError
            The part file is gone.
        """
        sink = cls.__new__(cls)
        sink.path, sink.part = Path(path), Path(part)
        sink.name, sink.overwrite = path, overwrite
        sink._pid = os.getpid()  # noqa: SLF001  (its own)
        sink._fd = os.open(part, FLAGS)  # noqa: SLF001  (its own)
        return sink

    def close(self) -> None:
        """Let go of the part file, and leave it where it is."""
        settle_part(self.part)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset.

        Raises
        ------
        SourceError
            The disk is full or failing, or this is a fork of who began the file.
        """
        self._check_own()
        view = memoryview(data)
        with self._translated(f" at byte {offset}"):
            while view:
                done = os.pwrite(self._fd, view, offset)
                view, offset = view[done:], offset + done

    def _check_own(self) -> None:
        """Refuse a forked process: two would write to the same places."""
        if self._pid != os.getpid():
            msg = (
                f"cannot write {self.name}: process {self._pid} began the file, this "
                "one is its fork: let each process write a file of its own"
            )
            raise SourceError(msg, url=self.name)

    @contextlib.contextmanager
    def _translated(self, where: str = "") -> Iterator[None]:
        """Say what failed, where, and what is left."""
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            msg = (
                f"cannot write {self.name}: {error.strerror or error}{where}; the "
                f"unfinished {self.part} is removed, {what_is_left(self.path)}"
            )
            raise SourceError(msg, url=self.name, errno=error.errno) from error

    def commit(self) -> None:
        """Fsync, rename, fsync the folder.

        Raises
        ------
        FileExistsError
            A file of that name has appeared, and `overwrite` is false.
        SourceError
            The disk is full or failing, or the part file is gone.
        """
        self._check_own()
        with self._translated():
            os.fsync(self._fd)
            if self.overwrite:
                self.part.replace(self.path)
            else:
                self._rename_new()
            settle_part(self.part)
            # Closed last: until then nobody takes the part file for abandoned.
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # the bytes are safe since fsync
                os.close(fd)
        with contextlib.suppress(OSError):  # not every file system can fsync a folder
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _rename_new(self) -> None:
        """Rename without replacing: a link fails where a rename would overwrite."""
        try:
            os.link(self.part, self.path)
        except FileExistsError:
            self.part.unlink()
            raise _exists(self.name) from None
        except (
            OSError
        ):  # no hard links here: the window between check and rename is tiny
            if os.path.lexists(self.path):
                self.part.unlink()
                raise _exists(self.name) from None
            self.part.replace(self.path)
        else:
            self.part.unlink()

    def abort(self) -> None:
        """Remove the part file; where that fails, the error at hand gets a note.

        A forked process only lets go of it: who began the file goes on.
        """
        try:
            if self._pid == os.getpid():
                self.part.unlink(missing_ok=True)
        except OSError as error:
            told = f"{self.part} is left, it cannot be removed: {error.strerror}"
            if error.__context__ is None:
                raise SourceError(told, url=self.name, errno=error.errno) from error
            error.__context__.add_note(told)
        self.close()


class UploadSink:
    """A remote file of any fsspec protocol: a local part file, uploaded whole."""

    def __init__(
        self, url: str, storage_options: Mapping[str, Any] | None, *, overwrite: bool
    ) -> None:
        self._target = RemoteTarget.open(url, storage_options, overwrite=overwrite)
        self.name = self._target.name
        # One name for all uploads: the next one sweeps what killed ones left.
        local = Path(tempfile.gettempdir(), "flac-raster-upload")
        self._file = FileSink(local, overwrite=True, private=True)
        self._file.name = self.name

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset."""
        self._file.put(data, offset)

    def commit(self) -> None:
        """Upload the file."""
        target = self._target
        try:
            target.refuse_existing()
            with target.translated("it was not stored"):
                target.fs.put_file(str(self._file.part), target.path)
        finally:
            self._file.abort()

    def abort(self) -> None:
        """Remove the part file."""
        self._file.abort()


def open_sink(
    target: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> Sink:
    """Choose the sink of a path or URL."""
    text = os.fspath(target)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text or "::" in text:
        return UploadSink(text, storage_options, overwrite=overwrite)
    return FileSink(text, overwrite=overwrite)


def _replaced(path: Path) -> os.stat_result | None:
    """Look at what a rename would replace; refuse what is no file."""
    try:
        there = path.stat()
    except OSError:  # nothing, or what making the part file will complain of
        return None
    if stat.S_ISREG(there.st_mode):
        return there
    is_folder = stat.S_ISDIR(there.st_mode)
    kind = "a folder" if is_folder else "a device, a pipe or a socket"
    msg = f"cannot write {path}: it is {kind}"
    raise SourceError(msg, url=str(path), errno=errno.EISDIR if is_folder else None)


def _exists(name: str) -> FileExistsError:
    msg = "already exists; pass overwrite=True (--overwrite) to replace it"
    return FileExistsError(errno.EEXIST, msg, name)
