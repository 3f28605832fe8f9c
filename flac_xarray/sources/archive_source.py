"""A file stored in a zip or tar archive, read where it lies in the archive.

Strategy: what is stored uncompressed is a run of the archive's bytes, so it is read by
ranges of the archive's own source, with its checks, its concurrency and its retries,
and without the archive's index: fsspec has read that, and its file objects have one
position for all threads and, for zip, read through all that lies before a tile.
Compressed members, and archives in archives, are left to fsspec.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, Final

from flac_xarray.errors import SourceChangedError, SourceError
from flac_xarray.ranges import ByteRange
from flac_xarray.sources.planned import PlannedSource
from flac_xarray.sources.protocol import Counters, FetchLimits, Prefix
from flac_xarray.sources.retrying import SourceNotFoundError

__all__ = ["MemberSource", "ZipMemberSource", "find_member"]

LOCAL_HEADER: Final = struct.Struct("<4s3H16x2H")
"""Signature, version, flags, method, ..., lengths of the name and of what follows."""
LOCAL_SIGNATURE: Final = b"PK\x03\x04"
USUAL_EXTRA: Final = 1024
"""Bytes: more than most writers put between a member's name and its first byte."""
UTF8_NAME: Final = 0x800
ENCRYPTED: Final = 0x1


class MemberSource:
    """Bytes ``[start, start + nbytes)`` of another source.

    Parameters
    ----------
    archive
        The archive.
    start
        Place of the member's first byte.
    nbytes
        How many it has.
    name
        What to show: no credentials.
    """

    def __init__(
        self, archive: PlannedSource, start: int, nbytes: int, name: str
    ) -> None:
        self.name = name
        self._archive = archive
        self._start = start
        self._nbytes = nbytes

    @property
    def limits(self) -> FetchLimits:
        """How the archive is fetched."""
        return self._archive.limits

    @limits.setter
    def limits(self, limits: FetchLimits) -> None:
        self._archive.limits = limits

    @property
    def counters(self) -> Counters:
        """What the archive's source has done."""
        return self._archive.counters

    def read_prefix(self, nbytes: int) -> Prefix:
        """Read at most `nbytes` from the start; see `Source.read_prefix`."""
        data = self.read_range(0, min(nbytes, self._nbytes))
        return Prefix(data, self._nbytes, self._archive.token)

    def read_ranges(
        self, ranges: Sequence[ByteRange]
    ) -> Iterator[tuple[int, memoryview]]:
        """Read many ranges; see `Source.read_ranges`."""
        return self._archive.read_ranges([self._shifted(r) for r in ranges])

    def read_range(self, start: int, stop: int) -> bytes | memoryview:
        """Read exactly the bytes from `start` up to `stop`; see `Source.read_range`."""
        wanted = self._shifted(ByteRange(start, stop))
        return self._archive.read_range(wanted.start, wanted.stop)

    def close(self) -> None:
        """Let go of the archive."""
        self._archive.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def _shifted(self, wanted: ByteRange) -> ByteRange:
        if wanted.stop > self._nbytes:
            msg = (
                f"{self.name}: bytes [{wanted.start}, {wanted.stop}) are wanted, "
                f"the file has {self._nbytes}"
            )
            raise SourceError(msg, url=self.name, start=wanted.start, stop=wanted.stop)
        begin = self._begin()
        return ByteRange(begin + wanted.start, begin + wanted.stop)

    def _begin(self) -> int:
        return self._start


class ZipMemberSource(MemberSource):
    """A stored member of a zip archive; its first byte lies behind a header of its own.

    Parameters
    ----------
    archive, nbytes, name
        As for `MemberSource`.
    header
        Place of the member's header.
    stop
        A place that the member does not reach.
    inner
        The member's name, as the archive's directory has it.
    """

    def __init__(
        self,
        archive: PlannedSource,
        header: int,
        nbytes: int,
        name: str,
        *,
        stop: int,
        inner: str,
    ) -> None:
        super().__init__(archive, -1, nbytes, name)
        self._header = header
        self._stop = stop
        self._inner = inner

    def __reduce__(self) -> tuple[Any, ...]:
        placed = (self._archive, self._header, self._nbytes, self.name)
        return (_reopen_zip, (placed, self._stop, self._inner))

    def read_prefix(self, nbytes: int) -> Prefix:
        """Read the member's header and at most `nbytes` from its start, at once."""
        nbytes = min(nbytes, self._nbytes)
        data = self._read_header(nbytes)
        if len(data) < nbytes:
            return super().read_prefix(nbytes)
        return Prefix(data, self._nbytes, self._archive.token)

    def _begin(self) -> int:
        if self._start < 0:  # two threads that find it at once find the same
            self._read_header(0)
        return self._start

    def _read_header(self, nbytes: int) -> memoryview:
        """Find the first byte; give what came of the `nbytes` that begin there."""
        usual = LOCAL_HEADER.size + 4 * len(self._inner) + USUAL_EXTRA
        stop = min(self._header + usual + nbytes, self._stop)
        data = memoryview(self._archive.read_range(self._header, stop))
        at = self._checked_header(data)
        self._start = self._header + at
        return data[at : at + nbytes]

    def _checked_header(self, data: memoryview) -> int:
        """Give the length of the header, if it is the one that the directory names."""
        size = LOCAL_HEADER.size
        if len(data) >= size:
            fields = LOCAL_HEADER.unpack_from(data)
            signature, _, flags, method, named, extra = fields
            encoding = "utf-8" if flags & UTF8_NAME else "cp437"
            inner = bytes(data[size : size + named]).decode(encoding, "replace")
            if (signature, method, inner) == (
                LOCAL_SIGNATURE,
                zipfile.ZIP_STORED,
                self._inner,
            ):
                return size + int(named) + int(extra)
        msg = (
            f"{self.name}: the archive was replaced since its directory was read: "
            "open it again"
        )
        raise SourceChangedError(msg, url=self.name)


def find_member(
    fs: Any, path: str, name: str, archive: PlannedSource
) -> MemberSource | None:
    """Give the source of a file in an archive, None where it is not simply stored.

    Parameters
    ----------
    fs
        fsspec's file system of the archive.
    path
        The file, as `fs` calls it.
    name
        What to show: no credentials.
    archive
        The bytes of the archive.

    Raises
    ------
    SourceNotFoundError
        A zip has no such file.
    """
    if hasattr(fs, "zip"):
        return _find_in_zip(fs.zip, path, name, archive)
    try:
        member = fs.tar.getmember(path)
    except KeyError:  # perhaps there under a name that fsspec made nicer
        return None
    if not member.isreg() or member.issparse():
        return None
    return MemberSource(archive, member.offset_data, member.size, name)


def _find_in_zip(
    directory: zipfile.ZipFile, path: str, name: str, archive: PlannedSource
) -> ZipMemberSource | None:
    try:
        info = directory.getinfo(path)
    except KeyError as error:
        msg = f"{name}: there is no such file in the archive"
        raise SourceNotFoundError(msg, url=name) from error
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED:
        return None
    return ZipMemberSource(
        archive,
        info.header_offset,
        info.file_size,
        name,
        stop=directory.start_dir,
        inner=info.orig_filename,
    )


def _reopen_zip(
    placed: tuple[PlannedSource, int, int, str], stop: int, inner: str
) -> ZipMemberSource:
    return ZipMemberSource(*placed, stop=stop, inner=inner)
