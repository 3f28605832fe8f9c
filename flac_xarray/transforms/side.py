"""Compressed bytes that travel beside the samples (docs/format.md, section 4.7).

Strategy: one piece is a five-field header and its packed bytes; pieces follow one
another in APPLICATION blocks. A piece is unpacked only up to the size that the
tile's shape allows, so a small stream cannot ask for a large buffer.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from typing import Final

from flac_xarray.errors import CorruptTileError

__all__ = ["SideReader", "pack_piece", "store_piece"]

# method, LZMA properties, reserved, nbytes, packed nbytes
_PIECE: Final = struct.Struct("<BBHII")
STORED: Final = 0
DEFLATE: Final = 1
LZMA: Final = 2
_MIN_DICT: Final = 1 << 12
_MAX_DICT: Final = 1 << 30
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
    >>> SideReader(pack_piece(bytes(1000))).take(1000) == bytes(1000)
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
        filters = _lzma_filters(properties, len(data))
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


class SideReader:
    """Takes pieces one after another; whatever is wrong is a CorruptTileError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, max_nbytes: int, min_nbytes: int | None = None) -> bytes:
        """Unpack the next piece.

        Parameters
        ----------
        max_nbytes
            More is an error, found before anything is unpacked.
        min_nbytes
            So is less; by default the same.

        Raises
        ------
        CorruptTileError
            There is no such piece, or it does not unpack to the size it promises.
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
        data = _unpack(method, properties, packed, nbytes)
        if len(packed) != packed_nbytes or len(data) != nbytes:
            raise CorruptTileError(
                f"a piece of side data has {len(data)} bytes: expected {nbytes}"
            )
        return data


def _unpack(method: int, properties: int, packed: bytes, nbytes: int) -> bytes:
    try:
        if method == STORED:
            return packed
        if method == DEFLATE:
            return zlib.decompressobj(wbits=-15).decompress(packed, nbytes or 1)
        if method == LZMA:
            filters = _lzma_filters(properties, nbytes)
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
            return unpacker.decompress(packed, nbytes)
    except (zlib.error, lzma.LZMAError, ValueError) as error:
        raise CorruptTileError(f"side data does not unpack: {error}") from error
    raise CorruptTileError(f"side data packed by method {method}: this reads 0 to 2")


def _pack_properties(lc: int, lp: int, pb: int) -> int:
    return (pb * 5 + lp) * 9 + lc


def _lzma_filters(properties: int, nbytes: int) -> list[dict[str, int]]:
    """Describe raw LZMA: properties as in .lzma files, dictionary >= data."""
    if properties >= _PROPERTIES:
        raise ValueError(f"LZMA properties {properties}")
    rest, lc = divmod(properties, 9)
    pb, lp = divmod(rest, 5)
    return [
        {
            "id": lzma.FILTER_LZMA1,
            "dict_size": min(
                max(_MIN_DICT, 1 << max(nbytes - 1, 0).bit_length()), _MAX_DICT
            ),
            "lc": lc,
            "lp": lp,
            "pb": pb,
        }
    ]
