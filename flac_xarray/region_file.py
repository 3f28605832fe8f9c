"""A finished or half filled file into which several jobs write tiles, in place.

Strategy: tiles are put behind all others, as in `shared_file`, and only when all of a
job's tiles are on the disk are their rows written into the tile tables. A job that
fails leaves bytes that nothing refers to, and every row as it was. The seal's
size of the file becomes 0, which says that it may grow (docs/format.md, section 2.2).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from flac_xarray.container import LENGTH, SEAL, SEAL_MAGIC, Layout, unpack_header
from flac_xarray.errors import SourceError, TruncatedError
from flac_xarray.header import Header
from flac_xarray.shared_file import FLAGS, claimed_end, locked, write_at
from flac_xarray.tile_batch import Part

__all__ = ["RegionFile", "read_header"]

PREFIX_NBYTES: Final = 64 << 10


def read_header(path: str | os.PathLike[str]) -> tuple[Header, Layout]:
    """Read the header of a file that others may be writing into.

    Unlike a source, which refuses a file that changes: its header does not.

    Raises
    ------
    SourceError
        There is no such file, or it cannot be read.
    FormatError
        It is no container.
    """
    try:
        with Path(path).open("rb") as file:
            prefix, wanted = b"", PREFIX_NBYTES
            while True:
                prefix += file.read(wanted - len(prefix))
                found = unpack_header(prefix)
                if not isinstance(found, int):
                    return found
                if found <= len(prefix) or len(prefix) < wanted:
                    msg = f"{path} ends in its header, after {len(prefix)} bytes"
                    raise TruncatedError(
                        msg, what="the header", expected=found, found=len(prefix)
                    )
                wanted = found
    except OSError as error:
        msg = f"cannot write into {path}: {error.strerror or error}"
        raise SourceError(msg, url=str(path), errno=error.errno) from error


class RegionFile:
    """A file that tasks put tiles into; pickles as its name.

    Parameters
    ----------
    path
        The file.
    tables
        Offset of each array's tile table.
    """

    waits = False

    def __init__(self, path: str | os.PathLike[str], tables: tuple[int, ...]) -> None:
        self.path = Path(path).resolve()  # one lock, by whatever link it was named
        self.name = str(self.path)
        self.tables = tables

    @property
    def _claims(self) -> str:
        return str(self.path.with_name(f".{self.path.name}.claims"))

    def begin(self) -> None:
        """Say in the file that it may grow.

        Raises
        ------
        SourceError
            It cannot be written to.
        """
        with self._translated(), locked(self._claims, create=True):
            fd = os.open(self.path, FLAGS)
            try:
                (nbytes,) = LENGTH.unpack(os.pread(fd, LENGTH.size, 0))
                at = LENGTH.size + nbytes
                magic, crc, size = SEAL.unpack(os.pread(fd, SEAL.size, at))
                if magic == SEAL_MAGIC and size:
                    write_at(fd, SEAL.pack(magic, crc, 0), at)
                    os.fsync(fd)
            finally:
                os.close(fd)

    def put(self, number: int, data: bytes) -> tuple[Part, int]:
        """Write bytes at the end; see `SharedFile.put`."""
        del number
        with (
            self._translated(),
            claimed_end(self.name, self._claims, len(data), create=True) as (fd, start),
        ):
            write_at(fd, data, start)
        return Part(0, len(data)), start

    def write_rows(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Make tiles count: write their rows, each at its offset.

        Raises
        ------
        SourceError
            The disk is failing.
        """
        with self._translated():
            fd = os.open(self.path, FLAGS)
            try:
                os.fsync(fd)  # a row must not be on the disk before its tile
                for offset, row in rows:
                    write_at(fd, row, offset)
                os.fsync(fd)
            finally:
                os.close(fd)
        self.abort()

    def finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        """Nothing to do: the header stays."""

    def abort(self) -> None:
        """Leave the file as it is; who still claims makes the lock's file anew."""
        with contextlib.suppress(OSError), locked(self._claims, create=False):
            Path(self._claims).unlink()

    def release(self) -> None:
        """Hold nothing: there is nothing to hold."""

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except OSError as error:
            msg = (
                f"cannot write into {self.name}: {error.strerror or error}; tiles that "
                "were there are as they were"
            )
            raise SourceError(msg, url=self.name, errno=error.errno) from error
