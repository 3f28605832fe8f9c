"""JPEG XL and JPEG-LS, through imagecodecs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.base import Encoded, Index, Pixels, Raster, mapped, tile_cuts

RGBA = (3, 4)
"""Numbers of bands that JPEG XL encodes together, after a colour transform."""


@dataclass(frozen=True, slots=True)
class JpegXl:
    """JPEG XL, lossless, one codestream a tile, through imagecodecs; no index counted.

    Three or four bands go into one codestream, other numbers into one each; signed
    integers are shifted to unsigned ones.
    """

    name: str = "JPEG XL"
    effort: int = 7
    requires: tuple[str, ...] = ("imagecodecs",)

    def holds(self, raster: Raster) -> bool:
        """Take integers to 16 bits, and float32."""
        return raster.dtype in {"uint8", "int8", "uint16", "int16", "float32"}

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Encode each tile at libjxl's default effort."""
        import imagecodecs

        source = unsigned(raster.array)
        together = len(source) in RGBA and source.dtype.kind == "u"

        def encode_tile(cut: Index) -> bytes:
            pixels = np.moveaxis(source[cut], 0, -1) if together else source[cut][0]
            return imagecodecs.jpegxl_encode(
                np.ascontiguousarray(pixels),
                lossless=True,
                effort=self.effort,
                numthreads=1,
            )

        depth = len(source) if together else 1
        cuts = list(tile_cuts(source.shape, (depth, tile, tile)))
        tiles = mapped(encode_tile, cuts, threads)
        return Encoded(sum(map(len, tiles)), list(zip(cuts, tiles, strict=True)))

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Decode each tile."""
        import imagecodecs

        dtype = raster.array.dtype
        target = np.empty(raster.array.shape, dtype)

        def decode_tile(item: tuple[Index, bytes]) -> None:
            cut, data = item
            pixels = signed(imagecodecs.jpegxl_decode(data, numthreads=1), dtype)
            rows, cols = target[cut].shape[1:]
            target[cut] = np.moveaxis(pixels.reshape(rows, cols, -1), -1, 0)

        mapped(decode_tile, encoded.payload, threads)
        return target


@dataclass(frozen=True, slots=True)
class JpegLs:
    """JPEG-LS (CharLS), one stream a band and tile, through imagecodecs; no index."""

    name: str = "JPEG-LS"
    requires: tuple[str, ...] = ("imagecodecs",)

    def holds(self, raster: Raster) -> bool:
        """Take integers to 16 bits."""
        return raster.dtype in {"uint8", "int8", "uint16", "int16"}

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Encode each tile; signed integers are shifted to unsigned ones."""
        import imagecodecs

        source = unsigned(raster.array)

        def encode_tile(cut: Index) -> bytes:
            return imagecodecs.jpegls_encode(np.ascontiguousarray(source[cut][0]))

        cuts = list(tile_cuts(source.shape, (1, tile, tile)))
        tiles = mapped(encode_tile, cuts, threads)
        return Encoded(sum(map(len, tiles)), list(zip(cuts, tiles, strict=True)))

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Decode each tile."""
        import imagecodecs

        dtype = raster.array.dtype
        target = np.empty(raster.array.shape, dtype)

        def decode_tile(item: tuple[Index, bytes]) -> None:
            cut, data = item
            target[cut][0] = signed(imagecodecs.jpegls_decode(data), dtype)

        mapped(decode_tile, encoded.payload, threads)
        return target


def unsigned(pixels: Pixels) -> Pixels:
    """Shift signed integers up by half their range; undo it with `signed`."""
    if pixels.dtype.kind != "i":
        return pixels
    top = np.array(1 << (8 * pixels.itemsize - 1)).astype(f"u{pixels.itemsize}")
    return pixels.view(top.dtype) ^ top


def signed(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Undo `unsigned`."""
    return unsigned(pixels.view(dtype)).view(dtype) if dtype.kind == "i" else pixels
