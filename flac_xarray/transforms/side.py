"""Compressed bytes that travel beside the samples (docs/format.md, section 4.7).

Strategy: one piece is a five-field header and its packed bytes; pieces follow one
another in APPLICATION blocks. A piece is unpacked only up to the size that the
tile's shape allows, so a small stream cannot ask for a large buffer.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError

__all__ = ["Piece", "SideReader", "pack_piece", "store_piece"]

# method, LZMA properties, reserved, nbytes, packed nbytes
_PIECE: Final = struct.Struct("<BBHII")
STORED: Final = 0
DEFLATE: Final = 1
LZMA: Final = 2
_MIN_DICT: Final = 1 << 12
_MAX_DICT: Final = 1 << 30
_STEP: Final = 1 << 15
"""Bytes that go into and come out of an unpacker at once."""
_NOISE: Final = 0.9
"""What a quick deflate cannot shrink to this share is not worth LZMA's time."""
_LZMA_EFFORT: Final = 3
_LARGE: Final = 1 << 16
_EXTREME: Final = 9 | lzma.PRESET_EXTREME
_PRESETS: Final = {
    3: (1, 0),
    4: (6, 1),
    5: (6, 4),
    6: (6, 5),
    7: (6, 6),
    8: (_EXTREME, 9),
    9: (_EXTREME, _EXTREME),
}
"""LZMA presets by effort, for pieces up to `_LARGE` bytes and beyond."""
_PROPERTIES: Final = 225


def pack_piece(data: bytes, *, effort: int = 5, pixel_nbytes: int = 1) -> bytes:
    """Compress bytes and put their header in front.

    Parameters
    ----------
    data
        Less than 4 GiB.
    effort
        0 to 9.
    pixel_nbytes
        1, 2, 4 or 8: LZMA aligns its contexts to it.

    Examples
    --------
    >>> SideReader(pack_piece(bytes(1000))).take(1000).tobytes() == bytes(1000)
    True
    """
    quick = _deflate(data, 1)
    if effort == 0 or len(quick) > _NOISE * len(data):
        packed, method, properties = quick, DEFLATE, 0
    elif effort < _LZMA_EFFORT:
        packed, method, properties = _deflate(data, 6), DEFLATE, 0
    else:
        bits = pixel_nbytes.bit_length() - 1
        properties = _pack_properties(0, bits, bits)
        filters = _lzma_filters(properties, _dict_size(len(data)))
        is_large = len(data) > _LARGE
        filters[0]["preset"] = _PRESETS[effort][is_large]
        packed = lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters)
        method = LZMA
    if len(packed) >= len(data):
        return store_piece(data)
    return _PIECE.pack(method, properties, 0, len(data), len(packed)) + packed


def store_piece(data: bytes) -> bytes:
    """Put a header in front of bytes that cannot be compressed."""
    return _PIECE.pack(STORED, 0, 0, len(data), len(data)) + data


def _deflate(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


class Piece:
    """The bytes of a piece, unpacked as they are asked for."""

    def __init__(
        self, method: int, properties: int, packed: memoryview, nbytes: int
    ) -> None:
        self.nbytes = nbytes
        """All that it unpacks to."""
        self._packed = packed
        self._fed = self._found = 0
        self._unpacker: Any = None
        if method == DEFLATE:
            self._unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        elif method == LZMA:
            # No longer than what it can refer to.
            filters = _lzma_filters(properties, min(max(nbytes, _MIN_DICT), _MAX_DICT))
            self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)

    @property
    def is_packed(self) -> bool:
        """Whether it is compressed."""
        return self._unpacker is not None

    def read(self, nbytes: int) -> NDArray[np.uint8]:
        """Give the next bytes.

        Raises
        ------
        CorruptTileError
            There are fewer.
        """
        if self._unpacker is None and nbytes <= len(self._packed) - self._fed:
            return np.frombuffer(self._next(nbytes), np.uint8)
        out = np.empty(nbytes, np.uint8)
        self.read_into(out)
        return out

    def read_into(self, out: NDArray[np.uint8]) -> None:
        """Fill a flat array with the next bytes; see `read`."""
        at = 0
        while at < out.size:
            try:
                part = self._next(out.size - at)
            except (zlib.error, lzma.LZMAError) as error:
                msg = f"side data does not unpack: {error}"
                raise CorruptTileError(msg) from error
            if not part:
                raise CorruptTileError(
                    f"a piece of side data has {self._found + at} bytes: "
                    f"expected {self.nbytes}"
                )
            out[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
        self._found += at

    def _next(self, nbytes: int) -> bytes | memoryview:
        """Unpack up to so many bytes, none at the end."""
        unpacker, room = self._unpacker, min(nbytes, _STEP)
        if unpacker is None:
            return self._feed(nbytes)
        part, is_dry = b"", False
        while not (part or is_dry or unpacker.eof):
            if isinstance(unpacker, lzma.LZMADecompressor):
                fed = self._feed(_STEP) if unpacker.needs_input else b""
                is_dry = unpacker.needs_input and not fed
            else:
                fed = unpacker.unconsumed_tail or self._feed(_STEP)
                is_dry = not fed
            part = unpacker.decompress(fed, room)
        return part

    def _feed(self, nbytes: int) -> memoryview:
        part = self._packed[self._fed : self._fed + nbytes]
        self._fed += len(part)
        return part


class SideReader:
    """Takes pieces one after another; whatever is wrong is a CorruptTileError."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._offset = 0

    def open(self, max_nbytes: int, min_nbytes: int | None = None) -> Piece:
        """Open the next piece, without unpacking it.

        Parameters
        ----------
        max_nbytes
            More is an error, found before anything is unpacked.
        min_nbytes
            So is less; by default the same.

        Raises
        ------
        CorruptTileError
            There is no such piece.
        """
        start = self._offset + _PIECE.size
        if start > len(self._data):
            raise CorruptTileError("the tile's side data ends before its next piece")
        head = _PIECE.unpack_from(self._data, self._offset)
        method, properties, _, nbytes, packed_nbytes = head
        least = max_nbytes if min_nbytes is None else min_nbytes
        if not least <= nbytes <= max_nbytes:
            raise CorruptTileError(
                f"a piece of side data has {nbytes} bytes: "
                f"expected {least} to {max_nbytes}"
            )
        packed = self._data[start : start + packed_nbytes]
        self._offset = start + packed_nbytes
        is_whole = len(packed) == packed_nbytes
        if not is_whole or (method == STORED and packed_nbytes != nbytes):
            raise CorruptTileError(
                f"a piece of side data has {len(packed)} packed bytes: "
                f"expected {packed_nbytes} for {nbytes}"
            )
        if method not in (STORED, DEFLATE, LZMA):
            raise CorruptTileError(
                f"side data packed by method {method}: this reads 0 to 2"
            )
        try:
            return Piece(method, properties, packed, nbytes)
        except (lzma.LZMAError, ValueError) as error:
            raise CorruptTileError(f"side data does not unpack: {error}") from error

    def take(self, max_nbytes: int, min_nbytes: int | None = None) -> NDArray[np.uint8]:
        """Unpack the next piece; see `open`.

        Raises
        ------
        CorruptTileError
            There is no such piece, or it does not unpack to the size it promises.
        """
        piece = self.open(max_nbytes, min_nbytes)
        return piece.read(piece.nbytes)

    def take_stored(self, max_nbytes: int) -> NDArray[np.uint8]:
        """Give the next piece, which may not be compressed.

        Raises
        ------
        CorruptTileError
            There is no such piece.
        """
        piece = self.open(max_nbytes, 0)
        if piece.is_packed:
            raise CorruptTileError("a piece that must be stored is compressed")
        return piece.read(piece.nbytes)


def _pack_properties(lc: int, lp: int, pb: int) -> int:
    return (pb * 5 + lp) * 9 + lc


def _lzma_filters(properties: int, dict_size: int) -> list[dict[str, int]]:
    """Describe raw LZMA: properties as in .lzma files."""
    if properties >= _PROPERTIES:
        raise ValueError(f"LZMA properties {properties}")
    rest, lc = divmod(properties, 9)
    pb, lp = divmod(rest, 5)
    return [
        {"id": lzma.FILTER_LZMA1, "dict_size": dict_size, "lc": lc, "lp": lp, "pb": pb}
    ]


def _dict_size(nbytes: int) -> int:
    """Give the format's dictionary for that many bytes."""
    return min(max(_MIN_DICT, 1 << max(nbytes - 1, 0).bit_length()), _MAX_DICT)
