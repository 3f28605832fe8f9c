"""Parts of a legacy file: what is at hand, and bounded reads of the rest.

Strategy: bytes are asked for through a callable that is handed in, never beyond the
file's size where it is known, and never more than `MAX_METADATA_NBYTES` before the
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flac_xarray.container import MAX_HEADER_NBYTES
from flac_xarray.errors import FormatError, TruncatedError
from flac_xarray.flac_stream import (
    VORBIS_COMMENT,
    Block,
    StreamInfo,
    unpack_comments,
    unpack_stream,
)

__all__ = ["FileBytes", "ReadRange", "StreamHead"]

ReadRange = Callable[[int, int], "bytes | memoryview"]
"""Gives the bytes from start to stop (half-open) of the file; may do I/O."""

MAGIC: Final = b"fLaC"
MAX_METADATA_NBYTES: Final = MAX_HEADER_NBYTES
FIRST_READ: Final = 16 << 10
"""Bytes that hold the comments of most tiles."""


@dataclass(frozen=True, slots=True)
class StreamHead:
    """What one FLAC stream says before its frames."""

    info: StreamInfo
    """The STREAMINFO block."""
    comments: Mapping[str, str]
    """Its comments, names in upper case."""
    vendor_nbytes: int
    """Length of the name of the library that wrote it."""
    nbytes: int
    """Where its frames begin, counted from its own start."""


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file of which the first bytes are at hand."""

    prefix: bytes
    """Its first bytes."""
    nbytes: int | None
    """Its size, None where nobody tells."""
    read_range: ReadRange
    """Where the rest comes from."""

    def get(self, start: int, stop: int) -> bytes:
        """Give the bytes of a half-open range.

        Raises
        ------
        TruncatedError
            The file ends before.
        """
        if self.nbytes is not None and stop > self.nbytes:
            what = f"byte {start} to {stop}"
            msg = f"the file has {self.nbytes} bytes: {what} is not in it"
            raise TruncatedError(msg, what=what, expected=stop, found=self.nbytes)
        if stop <= len(self.prefix):
            return self.prefix[start:stop]
        return bytes(self.read_range(start, stop))

    def is_stream(self, start: int) -> bool:
        """Whether a FLAC stream begins at a byte; may read 4 bytes."""
        stop = start + len(MAGIC)
        if self.nbytes is not None and stop > self.nbytes:
            return False
        return self.get(start, stop) == MAGIC

    def read_head(self, start: int, stop: int) -> StreamHead:
        """Read the metadata of the FLAC stream that lies in a range.

        Raises
        ------
        FormatError
            There is none, or its metadata is longer than the range or the limit.
        """
        stop = min(stop, start + MAX_METADATA_NBYTES)
        if start == 0 and len(self.prefix) >= len(MAGIC):
            data = self.prefix[:stop]
        else:
            data = self.get(start, min(stop, start + FIRST_READ))
        while True:
            try:
                info, blocks, nbytes = unpack_stream(data)
            except TruncatedError as error:
                needed = start + error.expected
                if needed > stop:
                    raise
                # Twice as much as at hand: a chain of small blocks takes few reads.
                needed = min(stop, max(needed, start + 2 * len(data)))
                data += self.get(start + len(data), needed)
            else:
                vendor_nbytes = _vendor_nbytes(blocks)
                comments = unpack_comments(blocks)
                return StreamHead(info, comments, vendor_nbytes, nbytes)


def _vendor_nbytes(blocks: tuple[Block, ...]) -> int:
    payload = next((b.payload for b in blocks if b.kind == VORBIS_COMMENT), b"")
    return int.from_bytes(payload[:4], "little")


def require_size(file: FileBytes) -> int:
    """Give the size of a file that is one tile, which cannot be read without it.

    Raises
    ------
    FormatError
        Nobody tells it.
    """
    if file.nbytes is None:
        msg = "a file that is one FLAC stream needs a source that tells its size"
        raise FormatError(msg)
    return file.nbytes
