"""Zarr and pcodec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.base import (
    Encoded,
    Index,
    Pixels,
    Raster,
    is_complex,
    mapped,
    tile_cuts,
    tile_shape,
)


@dataclass(frozen=True, slots=True)
class Zarr:
    """Zarr v3 array in a memory store: all its chunks and its metadata count."""

    name: str
    blosc: bool = False
    requires: tuple[str, ...] = ("zarr",)

    def holds(self, raster: Raster) -> bool:
        """Take every dtype; complex_int16 becomes complex64 as for every Zarr user."""
        del raster
        return True

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Create an array whose fill value is nodata, so that empty chunks are free."""
        import zarr.codecs
        import zarr.storage

        kept: dict[str, Any] = {}
        store = zarr.storage.MemoryStore(kept)
        codec = zarr.codecs.BloscCodec(
            cname="zstd", clevel=9, shuffle=zarr.codecs.BloscShuffle.bitshuffle
        )
        with zarr.config.set({"async.concurrency": threads}):
            array = zarr.create_array(
                store,
                shape=raster.array.shape,
                chunks=tile_shape(raster.array.shape, tile),
                dtype=raster.array.dtype,
                fill_value=0 if raster.nodata is None else raster.nodata,
                compressors=codec if self.blosc else "auto",
                zarr_format=3,
                dimension_names=("band", "y", "x"),
                attributes={k: str(v) for k, v in raster.profile.items()},
            )
            array[...] = raster.array
        return Encoded(sum(len(value) for value in kept.values()), store)

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Read the whole array."""
        import zarr

        del raster
        with zarr.config.set({"async.concurrency": threads}):
            return zarr.open_array(encoded.payload, mode="r")[...]


@dataclass(frozen=True, slots=True)
class Pcodec:
    """pcodec, one standalone stream a tile; the index that a file needs is not counted.

    8-bit pixels are widened to 16 bits, complex ones stored as two planes.
    """

    name: str = "pcodec 8"
    level: int = 8
    requires: tuple[str, ...] = ("pcodec",)

    def holds(self, raster: Raster) -> bool:
        """Take every numeric dtype, one way or the other."""
        del raster
        return True

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Encode each tile."""
        from pcodec import ChunkConfig, standalone

        config = ChunkConfig(compression_level=self.level)
        source = planes(raster)
        wide = wide_dtype(source.dtype)

        def encode_tile(cut: Index) -> bytes:
            pixels = np.ascontiguousarray(source[cut], wide).ravel()
            return standalone.simple_compress(pixels, config)

        cuts = list(tile_cuts(source.shape, tile_shape(source.shape, tile)))
        tiles = mapped(encode_tile, cuts, threads)
        return Encoded(sum(map(len, tiles)), list(zip(cuts, tiles, strict=True)))

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Decode each tile."""
        from pcodec import standalone

        target = planes_like(raster)

        def decode_tile(item: tuple[Index, bytes]) -> None:
            cut, data = item
            pixels = standalone.simple_decompress(data)
            target[cut] = pixels.reshape(target[cut].shape)

        mapped(decode_tile, encoded.payload, threads)
        return from_planes(target, raster)


def planes(raster: Raster) -> Pixels:
    """View a complex raster as (component and band, row, col) planes of numbers."""
    array = raster.array
    if not is_complex(raster):
        return array
    parts = np.concatenate([array.real, array.imag])
    return parts.astype(np.int16) if raster.dtype == "complex_int16" else parts


def planes_like(raster: Raster) -> Pixels:
    """Allocate what `planes` returns."""
    bands, *rest = raster.array.shape
    if not is_complex(raster):
        return np.empty(raster.array.shape, raster.array.dtype)
    dtype = np.int16 if raster.dtype == "complex_int16" else raster.array.real.dtype
    return np.empty((2 * bands, *rest), dtype)


def from_planes(parts: Pixels, raster: Raster) -> Pixels:
    """Undo `planes`."""
    if not is_complex(raster):
        return parts
    bands = len(parts) // 2
    array = np.empty(raster.array.shape, raster.array.dtype)
    array.real, array.imag = parts[:bands], parts[bands:]
    return array


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Widen 8-bit integers to the 16 bits that pcodec starts at."""
    return np.dtype(f"{dtype.kind}2") if dtype.itemsize == 1 else dtype
