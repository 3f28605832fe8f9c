"""Metadata framing of a FLAC stream (RFC 9639, section 8): bytes to values and back.

Strategy: pure, and only about bytes. What the frames hold is `flac_frames`'
business, what comments and application blocks mean is `tile_codec`'s. Whatever bytes
are given, `unpack_*` functions yield a value or raise FormatError, nothing else.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from flac_xarray.errors import FormatError, TruncatedError, UnsupportedDataError

__all__ = [
    "APPLICATION",
    "MAX_BLOCK_NBYTES",
    "VORBIS_COMMENT",
    "Block",
    "StreamInfo",
    "check_seal",
    "pack_application",
    "pack_comments",
    "pack_stream",
    "seal_stream",
    "unpack_application",
    "unpack_comments",
    "unpack_stream",
]

MAGIC: Final = b"fLaC"
STREAMINFO: Final = 0
APPLICATION: Final = 2
VORBIS_COMMENT: Final = 4
MAX_BLOCK_NBYTES: Final = (1 << 24) - 1
"""Largest payload of one metadata block: its length has 24 bits."""
_LAST: Final = 0x80
_FORBIDDEN: Final = 127
_STREAMINFO_NBYTES: Final = 34
_VENDOR: Final = ""
"""Every tile would repeat it."""
SEAL: Final = "GEOSPATIAL_CRC32"
"""The comment that holds a checksum of the stream (docs/format.md, section 4.9)."""
_SEAL_START: Final = f"{SEAL}=".encode()
_SEAL_DIGITS: Final = 8
_PRINTABLE: Final = range(0x20, 0x7F)


class Block(NamedTuple):
    """One metadata block other than STREAMINFO."""

    kind: int
    """Block type, 1 to 126."""
    payload: bytes | memoryview
    """Its content, at most `MAX_BLOCK_NBYTES`; of an APPLICATION block that was read,
    a view of the stream."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """The STREAMINFO block.

    Examples
    --------
    >>> info = StreamInfo(2048, 2048, 0, 0, 44100, 1, 16, 262144, bytes(16))
    >>> StreamInfo.unpack(info.pack()) == info
    True
    """

    min_blocksize: int
    """Fewest samples of a channel in a frame, the last frame apart."""
    max_blocksize: int
    """Most samples of a channel in a frame."""
    min_framesize: int
    """Bytes of the smallest frame, 0 when unknown."""
    max_framesize: int
    """Bytes of the largest frame, 0 when unknown."""
    sample_rate: int
    """In hertz; without meaning for a raster."""
    channels: int
    """1 to 8."""
    bits_per_sample: int
    """4 to 32."""
    total_samples: int
    """Samples of one channel, 0 when unknown."""
    md5: bytes
    """MD5 of all samples, little-endian and interleaved; zero bytes when unknown."""

    def __post_init__(self) -> None:
        ranges = (
            (self.min_blocksize, 0, 1 << 16),
            (self.max_blocksize, 0, 1 << 16),
            (self.min_framesize, 0, 1 << 24),
            (self.max_framesize, 0, 1 << 24),
            (self.sample_rate, 0, 1 << 20),
            (self.channels, 1, 9),
            (self.bits_per_sample, 4, 33),
            (self.total_samples, 0, 1 << 36),
            (len(self.md5), 16, 17),
        )
        if not all(low <= value < stop for value, low, stop in ranges):
            raise FormatError(f"STREAMINFO is out of range: {self}")

    def pack(self) -> bytes:
        """Give the 34 bytes of the block."""
        fields = (
            self.sample_rate << 44
            | (self.channels - 1) << 41
            | (self.bits_per_sample - 1) << 36
            | self.total_samples
        )
        return b"".join(
            (
                self.min_blocksize.to_bytes(2, "big"),
                self.max_blocksize.to_bytes(2, "big"),
                self.min_framesize.to_bytes(3, "big"),
                self.max_framesize.to_bytes(3, "big"),
                fields.to_bytes(8, "big"),
                self.md5,
            )
        )

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Undo `pack`.

        Raises
        ------
        FormatError
            There are not 34 bytes, or a field is out of range.
        """
        if len(payload) != _STREAMINFO_NBYTES:
            raise FormatError(
                f"STREAMINFO has {len(payload)} bytes: expected {_STREAMINFO_NBYTES}"
            )
        fields = int.from_bytes(payload[10:18], "big")
        return cls(
            min_blocksize=int.from_bytes(payload[:2], "big"),
            max_blocksize=int.from_bytes(payload[2:4], "big"),
            min_framesize=int.from_bytes(payload[4:7], "big"),
            max_framesize=int.from_bytes(payload[7:10], "big"),
            sample_rate=fields >> 44,
            channels=(fields >> 41 & 7) + 1,
            bits_per_sample=(fields >> 36 & 31) + 1,
            total_samples=fields & (1 << 36) - 1,
            md5=bytes(payload[18:]),
        )


def pack_stream(
    info: StreamInfo, blocks: Sequence[Block], frames: bytes | memoryview
) -> bytes:
    """Put a whole stream together: magic, STREAMINFO, the blocks, the frames.

    Raises
    ------
    UnsupportedDataError
        A block is longer than 24 bits can say.
    """
    parts: list[bytes | memoryview] = [MAGIC]
    every = [Block(STREAMINFO, info.pack()), *blocks]
    for i, (kind, payload) in enumerate(every):
        if len(payload) > MAX_BLOCK_NBYTES:
            raise UnsupportedDataError(
                f"a FLAC metadata block of {len(payload)} bytes: "
                f"expected at most {MAX_BLOCK_NBYTES}"
            )
        last = _LAST if i == len(every) - 1 else 0
        parts += [bytes([last | kind]), len(payload).to_bytes(3, "big"), payload]
    return b"".join([*parts, frames])


def unpack_stream(
    data: bytes | memoryview,
) -> tuple[StreamInfo, tuple[Block, ...], int]:
    """Take a stream's metadata apart.

    Returns
    -------
    info : StreamInfo
    blocks : tuple of Block
        The blocks behind STREAMINFO, in order.
    offset : int
        Where the first frame begins.

    Raises
    ------
    FormatError
        The bytes do not begin like a FLAC stream.
    """
    view = memoryview(data)
    if bytes(view[:4]) != MAGIC:
        raise FormatError(f"not a FLAC stream: begins with {bytes(view[:4])!r}")
    blocks: list[Block] = []
    offset, last = len(MAGIC), False
    while not last:
        head = bytes(view[offset : offset + 4])
        nbytes = int.from_bytes(head[1:], "big")
        stop = offset + 4 + nbytes
        if len(head) != len(MAGIC) or stop > len(view):
            raise TruncatedError(
                f"FLAC metadata ends at byte {len(view)}: expected at least {stop}",
                what="FLAC metadata",
                expected=stop,
                found=len(view),
            )
        last, kind = bool(head[0] & _LAST), head[0] & ~_LAST
        if (kind == STREAMINFO) != (not blocks) or kind == _FORBIDDEN:
            raise FormatError(f"FLAC metadata block {len(blocks)} has type {kind}")
        payload = view[offset + 4 : stop]
        blocks.append(Block(kind, payload if kind == APPLICATION else bytes(payload)))
        offset = stop
    return StreamInfo.unpack(bytes(blocks[0].payload)), tuple(blocks[1:]), offset


def pack_comments(comments: Mapping[str, str]) -> Block:
    """Make a VORBIS_COMMENT block.

    Raises
    ------
    UnsupportedDataError
        A name is not printable ASCII without ``=``, or a text is no valid Unicode.
    """
    entries = [_VENDOR]
    for name, text in comments.items():
        if not name or "=" in name or any(ord(c) not in _PRINTABLE for c in name):
            raise UnsupportedDataError(f"comment name {name!r} is not printable ASCII")
        entries.append(f"{name}={text}")
    try:
        packed = [entry.encode() for entry in entries]
    except UnicodeEncodeError as error:
        raise UnsupportedDataError(f"a comment is no valid Unicode: {error}") from error
    sized = [struct.pack("<I", len(entry)) + entry for entry in packed]
    count = struct.pack("<I", len(sized) - 1)
    return Block(VORBIS_COMMENT, b"".join([sized[0], count, *sized[1:]]))


def unpack_comments(blocks: Iterable[Block]) -> dict[str, str]:
    """Read the VORBIS_COMMENT block: names in upper case, of equal names the first.

    Raises
    ------
    FormatError
        The block does not hold what it promises.
    """
    found = next((b.payload for b in blocks if b.kind == VORBIS_COMMENT), None)
    if found is None:
        return {}
    payload = bytes(found)
    comments: dict[str, str] = {}
    try:
        offset = 4 + struct.unpack_from("<I", payload, 0)[0]
        (count,) = struct.unpack_from("<I", payload, offset)
        offset += 4
        for _ in range(count):
            (nbytes,) = struct.unpack_from("<I", payload, offset)
            offset += 4 + nbytes
            if offset > len(payload):
                raise FormatError(f"comment {len(comments)} leaves its block")
            entry = payload[offset - nbytes : offset].decode()
            name, _, text = entry.partition("=")
            comments.setdefault(name.upper(), text)
    except (struct.error, UnicodeDecodeError) as error:
        raise FormatError(f"damaged VORBIS_COMMENT block: {error}") from error
    return comments


def pack_application(name: bytes, data: bytes) -> list[Block]:
    """Make the APPLICATION blocks of `data`, as many as its length needs.

    Examples
    --------
    >>> pack_application(b"ABCD", b"xyz")
    [Block(kind=2, payload=b'ABCDxyz')]
    """
    step = MAX_BLOCK_NBYTES - len(name)
    return [
        Block(APPLICATION, name + data[start : start + step])
        for start in range(0, len(data), step)
    ]


def unpack_application(name: bytes, blocks: Iterable[Block]) -> bytes | memoryview:
    """Undo `pack_application`: the data of all blocks of that name, joined.

    The data of a single block is not copied.
    """
    found = [
        memoryview(payload)[len(name) :]
        for kind, payload in blocks
        if kind == APPLICATION and bytes(payload[: len(name)]) == name
    ]
    return found[0] if len(found) == 1 else b"".join(found)


def seal_stream(data: bytes) -> bytes:
    """Put a checksum of a stream into its comments, as the first of them.

    A stream that has one is returned as it is.

    Raises
    ------
    FormatError
        It is no FLAC stream, or has no comments.
    """
    info, blocks, offset = unpack_stream(data)
    if SEAL in unpack_comments(blocks):
        return data
    k = next((k for k, b in enumerate(blocks) if b.kind == VORBIS_COMMENT), None)
    if k is None:
        raise FormatError("a FLAC stream without comments has no place for a checksum")
    payload = bytes(blocks[k].payload)
    at = 4 + int.from_bytes(payload[:4], "little")
    count = int.from_bytes(payload[at : at + 4], "little")
    entry = _SEAL_START + b"0" * _SEAL_DIGITS
    head = struct.pack("<II", count + 1, len(entry)) + entry
    sealed = Block(VORBIS_COMMENT, payload[:at] + head + payload[at + 4 :])
    stream = pack_stream(
        info, [*blocks[:k], sealed, *blocks[k + 1 :]], memoryview(data)[offset:]
    )
    start, stop, crc = _seal_of(stream, len(stream))
    return stream[:start] + f"{crc:08x}".encode() + stream[stop:]


def check_seal(data: bytes | memoryview, digits: str, head_nbytes: int) -> None:
    """Compare a stream with the checksum in its comments.

    Parameters
    ----------
    data
        The whole stream.
    digits
        The comment's text.
    head_nbytes
        Bytes before its frames.

    Raises
    ------
    FormatError
        The stream is damaged.
    """
    *_, found = _seal_of(data, head_nbytes)
    if not re.fullmatch(r"[0-9a-f]{8}", digits) or int(digits, 16) != found:
        raise FormatError(
            f"the stream is damaged: checksum {digits!r:.12} expected, "
            f"{found:08x} found"
        )


def _seal_of(data: bytes | memoryview, head_nbytes: int) -> tuple[int, int, int]:
    """Give where the digits of a checksum lie, and the CRC-32 of all other bytes."""
    view = memoryview(data)
    start = bytes(view[:head_nbytes]).find(_SEAL_START) + len(_SEAL_START)
    stop = start + _SEAL_DIGITS
    return start, stop, zlib.crc32(view[stop:], zlib.crc32(view[:start]))
