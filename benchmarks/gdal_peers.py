"""Cloud optimized GeoTIFF and JPEG 2000, through rasterio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.base import Encoded, Pixels, Raster, is_complex

RGBA = (3, 4)
"""Numbers of bands that WebP takes."""


@dataclass(frozen=True, slots=True)
class Cog:
    """Cloud optimized GeoTIFF, written and read by rasterio (GDAL's COG driver).

    Pixel-interleaved (the driver's only way before GDAL 3.11), without overviews.
    """

    name: str
    compress: str
    predictor: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ("rasterio",)

    def holds(self, raster: Raster) -> bool:
        """Refuse what libtiff's predictor, LERC or WebP do not know."""
        if self.compress == "WEBP":
            return raster.dtype == "uint8" and len(raster.array) in RGBA
        if self.compress.startswith("LERC"):
            return not is_complex(raster) and raster.array.dtype not in (
                np.dtype("int64"),
                np.dtype("uint64"),
            )
        # Differences of complex pixels are unknown to libtiff.
        return not (self.predictor and is_complex(raster))

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Write into a `rasterio.io.MemoryFile`."""
        options = {
            "blocksize": tile,
            "overviews": "NONE",
            "bigtiff": "IF_SAFER",
            "num_threads": threads,
            "compress": self.compress,
            **self.options,
        }
        if self.predictor:
            options["predictor"] = 3 if raster.array.dtype.kind == "f" else 2
        return write_with_rasterio(raster, "COG", options)

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Read all bands with `threads` of GDAL's decoding threads."""
        del raster
        return read_with_rasterio(encoded, num_threads=threads)


@dataclass(frozen=True, slots=True)
class Jpeg2000:
    """JPEG 2000, reversible, written and read by rasterio (JP2OpenJPEG driver)."""

    name: str = "JPEG 2000"
    requires: tuple[str, ...] = ("rasterio",)

    def holds(self, raster: Raster) -> bool:
        """Take integers to 16 bits; the driver knows no int8."""
        return raster.dtype in {"uint8", "uint16", "int16"}

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Write into memory; OpenJPEG takes its threads from GDAL's configuration."""
        import rasterio

        options = {
            "codec": "JP2",
            "quality": 100,
            "reversible": "YES",
            "blockxsize": tile,
            "blockysize": tile,
        }
        with rasterio.Env(GDAL_NUM_THREADS=threads):
            return write_with_rasterio(raster, "JP2OpenJPEG", options)

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Read all bands."""
        import rasterio

        del raster
        with rasterio.Env(GDAL_NUM_THREADS=threads):
            return read_with_rasterio(encoded)


def write_with_rasterio(
    raster: Raster, driver: str, options: Mapping[str, Any]
) -> Encoded:
    """Write a raster into memory with one of GDAL's drivers."""
    from rasterio.io import MemoryFile

    count, height, width = raster.array.shape
    with MemoryFile() as memory:
        with memory.open(
            driver=driver,
            count=count,
            height=height,
            width=width,
            dtype=raster.dtype,
            nodata=raster.nodata,
            **raster.profile,
            **options,
        ) as out:
            out.write(raster.array)
        data = memory.read()
    return Encoded(len(data), data)


def read_with_rasterio(encoded: Encoded, **options: Any) -> Pixels:
    """Read all bands of a file in memory."""
    from rasterio.io import MemoryFile

    with MemoryFile(encoded.payload) as memory, memory.open(**options) as dataset:
        return dataset.read()
