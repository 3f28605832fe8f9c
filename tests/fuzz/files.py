"""FLAC rasters as parts that can be changed one by one, put together by hand.

Strategy: only struct, json and zlib, nothing of the package: what is tested does not
make the test. `pack_file` computes every checksum afresh, so a damaged part is behind
right ones.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

PIECE = struct.Struct("<BBHII")
"""A piece of side data: method, properties, reserved, nbytes, packed nbytes."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A tile's FLAC stream: STREAMINFO, other metadata blocks, frames."""

    info: bytes
    blocks: tuple[tuple[int, bytes], ...]
    frames: bytes

    @classmethod
    def unpack(cls, data: bytes) -> Stream:
        blocks, at, last = [], 4, False
        while not last:
            last, kind = bool(data[at] & 0x80), data[at] & 0x7F
            nbytes = int.from_bytes(data[at + 1 : at + 4], "big")
            blocks.append((kind, data[at + 4 : at + 4 + nbytes]))
            at += 4 + nbytes
        return cls(blocks[0][1], tuple(blocks[1:]), data[at:])

    def pack(self) -> bytes:
        every = [(0, self.info), *self.blocks]
        out = [b"fLaC"]
        for k, (kind, payload) in enumerate(every):
            last = 0x80 if k == len(every) - 1 else 0
            out += [
                bytes([last | kind]),
                (len(payload) & 0xFFFFFF).to_bytes(3, "big"),
                payload,
            ]
        return b"".join([*out, self.frames])

    def payload(self, kind: int) -> bytes | None:
        """First block of that kind."""
        return next((p for k, p in self.blocks if k == kind), None)

    def with_payload(self, kind: int, payload: bytes) -> Stream:
        """Replace the first block of a kind, or add one."""
        blocks = list(self.blocks)
        at = next((n for n, (k, _) in enumerate(blocks) if k == kind), None)
        if at is None:
            blocks.append((kind, payload))
        else:
            blocks[at] = (kind, payload)
        return replace(self, blocks=tuple(blocks))


def unpack_comments(payload: bytes) -> list[tuple[str, str]]:
    at = 4 + struct.unpack_from("<I", payload)[0]
    (count,) = struct.unpack_from("<I", payload, at)
    at += 4
    found = []
    for _ in range(count):
        (nbytes,) = struct.unpack_from("<I", payload, at)
        name, _, text = payload[at + 4 : at + 4 + nbytes].decode().partition("=")
        found.append((name, text))
        at += 4 + nbytes
    return found


def pack_comments(pairs: list[tuple[str, str]]) -> bytes:
    out = [struct.pack("<I", 0), struct.pack("<I", len(pairs))]
    for name, text in pairs:
        entry = f"{name}={text}".encode("utf-8", "surrogatepass")
        out += [struct.pack("<I", len(entry)), entry]
    return b"".join(out)


def unpack_pieces(side: bytes) -> list[tuple[int, int, int, int, int, bytes]]:
    found, at = [], 0
    while at < len(side):
        head = PIECE.unpack_from(side, at)
        at += PIECE.size
        found.append((*head, side[at : at + head[4]]))
        at += head[4]
    return found


def pack_pieces(pieces: list[tuple[int, int, int, int, int, bytes]]) -> bytes:
    return b"".join(PIECE.pack(*head) + data for *head, data in pieces)


@dataclass(frozen=True, slots=True)
class Parts:
    """A container: what its JSON says, and its tiles."""

    obj: Any
    """The JSON header; a ``table`` of -1 becomes the right offset."""
    tiles: tuple[tuple[bytes, ...], ...]
    """Streams by array and number; b"" is an empty tile."""
    rows: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """Rows that say something else: (array, number) -> (offset from data, nbytes)."""
    file_nbytes: int | None = None
    """What the seal says instead of the truth."""

    @classmethod
    def unpack(cls, data: bytes) -> Parts:
        (nbytes,) = struct.unpack_from(">I", data)
        obj = json.loads(data[4 : 4 + nbytes])
        at, tiles = 4 + nbytes + 16, []
        for array in obj["arrays"]:
            count = 1
            for n, t in zip(array["shape"], array["tile"], strict=True):
                count *= -(-n // t)
            rows = [struct.unpack_from("<QII", data, at + 16 * k) for k in range(count)]
            tiles.append(tuple(data[o : o + n] for o, n, _ in rows))
            at += 16 * count
            array["table"] = -1
        return cls(obj, tuple(tiles))


def place_tables(obj: Any, counts: list[int]) -> bytes:
    """Give the padded JSON, every ``table`` of -1 being the right offset."""
    arrays = obj.get("arrays") if isinstance(obj, dict) else None
    mine = [
        array
        for array in arrays
        if isinstance(array, dict) and array.get("table") == -1
    ] if isinstance(arrays, list) else []  # fmt: skip
    nbytes = 0
    while True:
        at = 4 + nbytes + 16
        for array, count in zip(mine, counts, strict=False):
            array["table"] = at
            at += 16 * count
        text = json.dumps(obj, separators=(",", ":")).encode()
        padded = len(text) + -(4 + len(text)) % 16
        if padded <= nbytes:
            break
        nbytes = padded
    for array in mine:
        array["table"] = -1
    return text.ljust(nbytes)


def seal(text: bytes, file_nbytes: int) -> bytes:
    """Length, JSON and seal."""
    head = struct.pack(">I", len(text)) + text
    return head + b"FXRS" + struct.pack("<IQ", zlib.crc32(head), file_nbytes)


def pack_file(parts: Parts, text: bytes | None = None) -> bytes:
    """Put a container together, every checksum being right.

    `text` stands in for the JSON of `parts`.
    """
    if text is None:
        text = place_tables(parts.obj, [len(tiles) for tiles in parts.tiles])
    n_rows = sum(map(len, parts.tiles))
    start = 4 + len(text) + 16 + 16 * n_rows
    body = b"".join(stream for tiles in parts.tiles for stream in tiles)
    size = start + len(body) if parts.file_nbytes is None else parts.file_nbytes
    table, at = [], start
    for a, tiles in enumerate(parts.tiles):
        for number, stream in enumerate(tiles):
            offset, nbytes = (at, len(stream)) if stream else (0, 0)
            at += len(stream)
            if (a, number) in parts.rows:
                relative, nbytes = parts.rows[a, number]
                offset = relative + start if nbytes else relative
            offset, nbytes = offset % (1 << 64), nbytes % (1 << 32)
            shown = body[max(offset - start, 0) : max(offset - start, 0) + nbytes]
            place = struct.pack("<IQQI", a, number, offset, nbytes)
            crc = zlib.crc32(place, zlib.crc32(shown) if nbytes else 0)
            table.append(struct.pack("<QII", offset, nbytes, crc))
    return b"".join([seal(text, size % (1 << 64)), *table, body])


def mend_frames(frames: bytes, starts: list[int], heads: list[int]) -> bytes:
    """Recompute CRC-8 and CRC-16 of frames that begin at `starts`.

    `heads` are the sizes of the frames' headers, CRC-8 included.
    """
    out = bytearray(frames)
    stops = [*starts[1:], len(out)]
    for start, stop, head in zip(starts, stops, heads, strict=True):
        if stop - start < head + 2:
            continue
        out[start + head - 1] = _crc(out[start : start + head - 1], _CRC8, 8)
        crc = _crc(out[start : stop - 2], _CRC16, 16)
        out[stop - 2 : stop] = crc.to_bytes(2, "big")
    return bytes(out)


def frame_starts(frames: bytes) -> tuple[list[int], list[int]]:
    """Find the frames of an undamaged stream: starts, and sizes of their headers."""
    starts, heads, at = [], [], 0
    while at < len(frames):
        head = _head_nbytes(frames, at)
        stop = at + head + 2
        while True:
            stop = frames.find(b"\xff", stop)
            if stop < 0:
                stop = len(frames)
                break
            is_frame = frames[stop + 1 : stop + 2] in (b"\xf8", b"\xf9")
            if is_frame and _crc(frames[at:stop], _CRC16, 16) == 0:
                break
            stop += 1
        starts.append(at)
        heads.append(head)
        at = stop
    return starts, heads


def _head_nbytes(frames: bytes, at: int) -> int:
    size_code, rate_code = frames[at + 2] >> 4, frames[at + 2] & 15
    first, number = frames[at + 4], 1
    while first & 0x80 and first & (0x80 >> number):
        number += 1
    extra = {6: 1, 7: 2}.get(size_code, 0) + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    return 4 + number + extra + 1


def _table(polynomial: int, bits: int) -> list[int]:
    out = []
    for byte in range(256):
        crc = byte << (bits - 8)
        for _ in range(8):
            crc = (crc << 1) ^ (polynomial if crc >> (bits - 1) else 0)
            crc &= (1 << bits) - 1
        out.append(crc)
    return out


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc(data: bytes | bytearray, table: list[int], bits: int) -> int:
    crc, mask, shift = 0, (1 << bits) - 1, bits - 8
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> shift ^ byte]
    return crc
