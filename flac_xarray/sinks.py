"""Where a writer's bytes go: whole under the final name, or not at all.

Strategy: bytes are put at claimed offsets of a temporary file beside the target, by
any number of threads; `commit` fsyncs and renames, `abort` removes. A remote target is
written to a local temporary file first and uploaded whole on `commit`: object stores
show an object only when its upload is complete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from flac_xarray.errors import SourceError

__all__ = ["FileSink", "MemorySink", "Sink", "UploadSink", "open_sink"]


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
        self._lock = threading.Lock()

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
        The final name.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        The file exists and `overwrite` is false; checked again on `commit`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        self.name = str(self.path)
        self.overwrite = overwrite
        if not overwrite and os.path.lexists(self.path):
            raise _exists(self.name)
        self.part = self.path.with_name(
            f".{self.path.name}.{secrets.token_hex(4)}.part"
        )
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            self._fd = os.open(self.part, flags, 0o666)
        except OSError as error:
            msg = f"cannot write {self.name}: {error.strerror}"
            raise SourceError(msg, url=self.name, errno=error.errno) from error

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done

    def commit(self) -> None:
        """Fsync, rename, fsync the folder."""
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self.overwrite:
            self.part.replace(self.path)
        else:
            self._rename_new()
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
        """Remove the temporary file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(FileNotFoundError):
            self.part.unlink()


class UploadSink:
    """A remote file of any fsspec protocol: a local temporary file, uploaded whole."""

    def __init__(
        self, url: str, storage_options: Mapping[str, Any] | None, *, overwrite: bool
    ) -> None:
        import fsspec

        self.name = url.split("?", maxsplit=1)[0]
        self._fs, self._remote = fsspec.core.url_to_fs(
            url, **dict(storage_options or {})
        )
        self._overwrite = overwrite
        self._refuse_existing()
        self._folder = Path(tempfile.mkdtemp(prefix="flac-raster-"))
        self._file = FileSink(self._folder / "upload.flac")

    def _refuse_existing(self) -> None:
        if not self._overwrite and self._fs.exists(self._remote):
            raise _exists(self.name)

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset."""
        self._file.put(data, offset)

    def commit(self) -> None:
        """Upload the file."""
        try:
            self._file.commit()
            self._refuse_existing()
            self._fs.put_file(str(self._file.path), self._remote)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def abort(self) -> None:
        """Remove the temporary file."""
        self._file.abort()
        shutil.rmtree(self._folder, ignore_errors=True)


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


def _exists(name: str) -> FileExistsError:
    msg = "already exists; pass overwrite=True (--overwrite) to replace it"
    return FileExistsError(errno.EEXIST, msg, name)
