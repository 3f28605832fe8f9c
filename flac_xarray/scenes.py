"""Synthetic rasters that look and compress like real ones, from a seed.

Strategy: relief is noise whose power falls with frequency, as terrain's does; light,
fields and sensor noise follow from it. Sensor noise is what keeps real imagery from
compressing, so it is put in as honestly as the rest. For the demonstration and for
tests; never to be taken for a measurement.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flac_xarray.georef import Affine

__all__ = [
    "Scene",
    "classes_scene",
    "dated_scene",
    "multispectral_scene",
    "terrain_scene",
]

BANDS: Final = ("B02, blue", "B03, green", "B04, red", "B08, near infrared")
REFLECTANCE: Final = (
    (390, 620, 520, 2900),
    (560, 870, 720, 3300),
    (950, 1280, 1620, 2450),
    (1150, 1330, 1480, 2050),
    (520, 560, 380, 240),
)
"""Per kind of cover and band, in units of 0.0001, offset excluded."""
WINTER: Final = (
    (480, 640, 650, 1700),
    (640, 820, 900, 1900),
    (950, 1280, 1620, 2450),
    *REFLECTANCE[3:],
)
"""The same when nothing grows."""
SUMMER: Final = (*REFLECTANCE[:2], (380, 760, 480, 3900), *REFLECTANCE[3:])
"""The same when all grows: a field stands before the harvest."""
GROWTH: Final = ((205, 80), (195, 95), (165, 50), (0, 1), (0, 1))
"""Day of the year of the most growth, and days to either side, per kind of cover."""
WOOD, MEADOW, FIELD, TOWN, WATER = range(5)
TREES_FROM: Final = 0.3
TOWNS_BELOW: Final = 0.5
TOWN_FROM: Final = 1.9
"""Where the cover changes, in standard deviations of relief and of settlement."""
SHARE_BARE: Final = 0.4
SHARE_WATER: Final = 0.04
OFFSET: Final = 1000
"""Added to every digital number, as in Sentinel-2 products since 2022."""
NODATA_CLASS: Final = 255


@dataclass(frozen=True, slots=True)
class Scene:
    """Pixels and where they are."""

    pixels: NDArray[Any]
    """Shape (band, row, col)."""
    transform: Affine
    """Pixel to CRS."""
    crs: str
    """Authority code."""
    nodata: float | None = None
    """Nodata value."""
    descriptions: tuple[str, ...] = ()
    """Per band; none when empty."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """GDAL metadata."""

    def write_geotiff(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write a GeoTIFF with rasterio; `options` are GDAL's creation options."""
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning

        count, height, width = self.pixels.shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=count,
                height=height,
                width=width,
                dtype=self.pixels.dtype.name,
                crs=self.crs,
                transform=rasterio.Affine(*self.transform),
                nodata=self.nodata,
                **options,
            ) as out:
                out.write(self.pixels)
                out.update_tags(**self.tags)
                for k, text in enumerate(self.descriptions, start=1):
                    out.set_band_description(k, text)


def terrain_scene(height: int = 1024, width: int = 1024, *, seed: int = 1) -> Scene:
    """Make an elevation model: int16 metres, 1 arc second, lakes as flat as water.

    Examples
    --------
    >>> scene = terrain_scene(60, 80)
    >>> scene.pixels.shape, scene.pixels.dtype.name
    ((1, 60, 80), 'int16')
    """
    rng = np.random.default_rng(seed)
    relief = _relief(rng, height, width, exponent=2.0)
    metres = 1400 + 320 * relief + 4 * rng.standard_normal(relief.shape, np.float32)
    lake = np.quantile(metres, SHARE_WATER)
    pixels = np.rint(np.maximum(metres, lake)).astype(np.int16)
    step = 1 / 3600
    return Scene(
        pixels[np.newaxis],
        (step, 0.0, 10.0, 0.0, -step, 46.5),
        "EPSG:4326",
        nodata=-32768,
        tags={"AREA_OR_POINT": "Point", "SYNTHETIC": f"terrain, seed {seed}"},
    )


def multispectral_scene(
    height: int = 2048, width: int = 2048, *, seed: int = 1
) -> Scene:
    """Make four bands of 10 m like Sentinel-2's: uint16 digital numbers.

    Examples
    --------
    >>> multispectral_scene(50, 60).pixels.shape
    (4, 50, 60)
    """
    rng = np.random.default_rng(seed)
    pixels = _seen(rng, rng, REFLECTANCE, height, width)
    return _multispectral(pixels, f"multispectral, seed {seed}")


def dated_scene(
    day: int, height: int = 1024, width: int = 1024, *, seed: int = 1
) -> Scene:
    """Make the land of `multispectral_scene` as it looks on a day of the year.

    Woods, meadows and fields grow and fade; clouds, another sky every day, are nodata.

    Examples
    --------
    >>> winter, summer = (dated_scene(day, 64, 64).pixels for day in (20, 170))
    >>> bool(summer[3].max() > winter[3].max())
    True
    """
    land, sky = np.random.default_rng(seed), np.random.default_rng((seed, day))
    peak, days = np.array(GROWTH).T[:, :, np.newaxis]
    grown = np.exp(-(((day - peak) / days) ** 2))
    table = WINTER + grown * np.subtract(SUMMER, WINTER)
    pixels = _seen(land, sky, table, height, width)
    share = sky.random() ** 2
    clouds = _relief(sky, height, width, exponent=1.8)
    pixels[:, clouds > np.quantile(clouds, 1 - share)] = 0
    return _multispectral(pixels, f"multispectral, seed {seed}, day {day}")


def _seen(
    land: np.random.Generator,
    sky: np.random.Generator,
    reflectance: ArrayLike,
    height: int,
    width: int,
) -> NDArray[np.uint16]:
    """Digital numbers of the land, with the noise of one look at it."""
    relief = _relief(land, height, width, exponent=2.0)
    cover = _cover(land, relief)
    light = 1 + 8 * np.gradient(relief, axis=1)
    # Within a field or a wood no two places are alike: brightness varies, bands alike.
    texture = _relief(land, height, width, exponent=1.3)
    table = np.array(reflectance, np.float32)
    pixels = np.empty((len(BANDS), height, width), np.uint16)
    for k in range(len(BANDS)):
        value = _blur(table[:, k][cover]) * light * (1 + 0.09 * texture)
        noise = sky.standard_normal(value.shape, np.float32)
        # Shot noise grows with the square root of the light, read noise does not.
        value += noise * (0.35 * np.sqrt(np.abs(value)) + 4)
        pixels[k] = np.clip(np.rint(value + OFFSET), 1, 20000)
    return pixels


def _multispectral(pixels: NDArray[np.uint16], made: str) -> Scene:
    return Scene(
        pixels,
        (10.0, 0.0, 600000.0, 0.0, -10.0, 5100000.0),
        "EPSG:32632",
        nodata=0,
        descriptions=BANDS,
        tags={"AREA_OR_POINT": "Area", "SYNTHETIC": made},
    )


def classes_scene(height: int = 1024, width: int = 1024, *, seed: int = 1) -> Scene:
    """Make a map of land cover classes: uint8, 255 outside a ragged border.

    Examples
    --------
    >>> sorted(set(classes_scene(64, 64).pixels.ravel().tolist()))[-1]
    255
    """
    rng = np.random.default_rng(seed)
    relief = _relief(rng, height, width, exponent=2.0)
    pixels = _cover(rng, relief).astype(np.uint8) + np.uint8(1)
    row, col = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    pixels[row**2 + col**2 + 0.1 * relief > 1] = NODATA_CLASS
    return Scene(
        pixels[np.newaxis],
        (30.0, 0.0, 4300000.0, 0.0, -30.0, 2700000.0),
        "EPSG:3035",
        nodata=NODATA_CLASS,
        descriptions=("land cover",),
        tags={"AREA_OR_POINT": "Area", "SYNTHETIC": f"classes, seed {seed}"},
    )


def _relief(
    rng: np.random.Generator, height: int, width: int, *, exponent: float
) -> NDArray[np.float32]:
    """Noise of mean 0 and deviation 1 whose amplitude is frequency ** -exponent."""
    white = rng.standard_normal((height, width), np.float32)
    spectrum = np.fft.rfft2(white)
    row = np.fft.fftfreq(height)[:, np.newaxis]
    col = np.fft.rfftfreq(width)[np.newaxis]
    frequency = np.hypot(row, col).astype(np.float32)
    frequency[0, 0] = np.inf  # no mean
    spectrum *= frequency**-exponent
    noise = np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    noise -= noise.mean()
    return noise / (noise.std() or 1)


def _cover(rng: np.random.Generator, relief: NDArray[np.float32]) -> NDArray[np.int8]:
    """Kind of cover per pixel, a row of `REFLECTANCE`."""
    height, width = relief.shape
    towns = _relief(rng, height, width, exponent=1.6)
    # Fields are strips along a slant, each one sown or bare.
    row, col = np.ogrid[:height, :width]
    strip = (row + col // 3) // 17 * 1009 + (col - row // 3) // 41
    is_bare = (rng.random(4096) < SHARE_BARE)[strip % 4096]
    cover = np.where(relief < TREES_FROM, MEADOW, WOOD).astype(np.int8)
    cover[(relief < 0) & is_bare] = FIELD
    cover[(relief < TOWNS_BELOW) & (towns > TOWN_FROM)] = TOWN
    cover[relief < np.quantile(relief, SHARE_WATER)] = WATER
    return cover


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix neighbours, as a telescope does: edges are never one pixel wide."""
    quarter = np.float32(0.25)
    for axis in (0, 1):
        around = np.roll(values, 1, axis) + np.roll(values, -1, axis)
        values = quarter * around + 2 * quarter * values
    return values
