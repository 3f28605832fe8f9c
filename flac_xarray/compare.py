"""What differs between two rasters, GeoTIFFs and FLAC rasters alike.

Strategy: each side becomes a `Header` and a function that reads planes; metadata is
compared as values, pixels block by block as bits and as numbers, so that NaN payloads
and the sign of zero are seen and a difference of bits alone is told apart.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.errors import CRSError

from flac_xarray.dtypes import itemsize
from flac_xarray.errors import (
    NotFlacRasterError,
    SourceError,
)
from flac_xarray.georef import Georef
from flac_xarray.geotiff import header_from_dataset, open_dataset, translated_errors
from flac_xarray.geotiff.gdal import bounded_cache, known_crs
from flac_xarray.geotiff.source_levels import open_levels, with_levels
from flac_xarray.grid import TileGrid
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.reader import FlacRaster

__all__ = ["BandDifference", "Comparison", "compare_rasters"]

BLOCK_NBYTES: Final = 16 << 20
"""Pixels compared at a time, in bytes of each side."""

TILE: Final = 512


@dataclass(frozen=True, slots=True)
class BandDifference:
    """How the pixels of one band differ; ``band`` counts from 1, 0 being the mask."""

    band: int
    """1-based, as in rasterio; 0 is the dataset's mask."""
    n_pixels: int
    """Pixels compared."""
    n_different_bits: int
    """Pixels whose bit patterns differ: NaN payloads and -0.0 included."""
    n_different: int
    """Pixels whose values differ: NaN equals NaN, and -0.0 equals 0.0."""
    max_difference: float
    """Largest absolute difference; NaN where only one side is NaN is not counted."""
    level: int = 0
    """Overview level, 0 being full resolution."""

    @property
    def equal(self) -> bool:
        """Whether every bit agrees."""
        return self.n_different_bits == 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare_rasters`."""

    bands: tuple[BandDifference, ...]
    """Per band; none when the shapes differ."""
    differences: Mapping[str, tuple[Any, Any]]
    """Whatever else differs: name -> (what `a` has, what `b` has)."""
    overviews: tuple[BandDifference, ...] = ()
    """Per level and band, of the overviews that both have in one size."""

    @property
    def equal_pixels(self) -> bool:
        """Whether shape, dtype and every bit of every pixel of level 0 agree."""
        kinds = {"shape", "dtype", "mask"}
        return all(b.equal for b in self.bands) and not kinds & set(self.differences)

    @property
    def equal(self) -> bool:
        """Whether pixels, overviews and metadata agree."""
        overviews = all(b.equal for b in self.overviews)
        return self.equal_pixels and overviews and not self.differences


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two rasters."""

    header: Header
    read: Callable[[int, tuple[slice, ...]], NDArray[Any]]
    """Reads a selection of one of the header's arrays."""

    @property
    def info(self) -> ArrayInfo:
        return self.header.arrays[self.header.find()]

    @property
    def mask(self) -> int | None:
        return self.mask_at(0)

    def mask_at(self, level: int) -> int | None:
        roles = [(a.role, a.level) for a in self.header.arrays]
        return roles.index(("mask", level)) if ("mask", level) in roles else None

    @property
    def sizes(self) -> dict[int, tuple[int, ...]]:
        """Rows and columns of each overview level."""
        header = self.header
        return {
            level: header.arrays[header.find(level=level)].shape[-2:]
            for level in header.levels
            if level
        }


def compare_rasters(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Comparison:
    """Compare two rasters, each a FLAC raster or anything rasterio reads.

    Parameters
    ----------
    a, b
        Paths or URLs.
    storage_options
        Options of the fsspec file system, for FLAC rasters.
    progress
        Called with the pixel bytes of each block compared, of one side.

    Returns
    -------
    Comparison
        Differences of pixels per band, and of everything else by name.

    Raises
    ------
    SourceError
        One of them cannot be read, or is not a raster.
    """
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(_open(x, storage_options)) for x in (a, b))
        stack.enter_context(bounded_cache(0))
        differences = dict(_differences(one, two))
        bands: list[BandDifference] = []
        overviews: list[BandDifference] = []
        if one.info.shape == two.info.shape:
            bands += _compare_level(one, two, 0, progress)
            for level in sorted(one.sizes.items() & two.sizes.items()):
                overviews += _compare_level(one, two, level[0], progress)
    return Comparison(tuple(bands), differences, tuple(overviews))


def _compare_level(
    one: _Side, two: _Side, level: int, progress: Callable[[int], object] | None
) -> list[BandDifference]:
    find = (one.header.find(level=level), two.header.find(level=level))
    bands = _compare(one, two, *find, progress)
    masks = (one.mask_at(level), two.mask_at(level))
    if None not in masks:
        bands += _compare(one, two, *masks, progress, first=0)  # type: ignore[arg-type]
    return [replace(band, level=level) for band in bands]


@contextlib.contextmanager
def _open(
    source: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> Iterator[_Side]:
    """Open a FLAC raster; what is none, or cannot be had so, with rasterio."""
    name = os.fspath(source)
    try:
        raster = FlacRaster.open(name, storage_options=storage_options)
    except (NotFlacRasterError, SourceError, FileNotFoundError) as error:
        with contextlib.ExitStack() as stack:
            try:
                dataset = stack.enter_context(open_dataset(name))
            except SourceError:
                # GDAL's names are no paths, so it was asked; neither could read it.
                if isinstance(error, NotFlacRasterError):
                    raise
                raise error from None
            levels = stack.enter_context(open_levels(dataset))
            with translated_errors(name, "read"):
                header = with_levels(header_from_dataset(dataset), levels)
            datasets = (dataset, *levels)
            yield _Side(header, lambda k, s: _read_dataset(datasets, header, k, s))
        return
    with raster:
        yield _Side(raster.header, lambda k, s: raster.read_selection(s, position=k))


def _read_dataset(
    datasets: Sequence[Any], header: Header, position: int, selection: tuple[slice, ...]
) -> NDArray[Any]:
    rows, cols = selection[-2:]
    dataset = datasets[header.arrays[position].level]
    window = rasterio.windows.Window.from_slices(rows, cols)
    is_mask = header.arrays[position].role == "mask"
    with translated_errors(str(dataset.name), "read"):
        pixels: NDArray[Any]
        if len(selection) == 2:  # noqa: PLR2004
            pixels = dataset.dataset_mask(window=window)
        else:
            bands = range(selection[0].start + 1, selection[0].stop + 1)
            read = dataset.read_masks if is_mask else dataset.read
            pixels = read(list(bands), window=window)
    return pixels


def _compare(
    one: _Side,
    two: _Side,
    at: int,
    other: int,
    progress: Callable[[int], object] | None,
    *,
    first: int = 1,
) -> list[BandDifference]:
    """Compare two arrays of one shape, plane by plane of the leading dims."""
    info = one.header.arrays[at]
    leading = info.shape[:-2]
    totals = np.zeros((int(np.prod(leading)), 3))
    n_pixels = info.shape[-2] * info.shape[-1]
    tile = (*(1 for _ in leading), *info.tile[-2:])
    grid = TileGrid(info.shape, tile)
    for block in grid.blocks(BLOCK_NBYTES // itemsize(info.dtype)):
        pixels, others = one.read(at, block), two.read(other, block)
        where = np.arange(len(totals)).reshape(leading)[block[:-2]].ravel()
        planes = zip(
            where,
            pixels.reshape(-1, *pixels.shape[-2:]),
            others.reshape(-1, *others.shape[-2:]),
            strict=True,
        )
        for k, x, y in planes:
            bits, values, largest = _count(x, y)
            totals[k, :2] += bits, values
            totals[k, 2] = max(totals[k, 2], largest)
        if progress is not None:
            progress(pixels.nbytes)
    return [
        BandDifference(k + first, n_pixels, int(bits), int(values), float(largest))
        for k, (bits, values, largest) in enumerate(totals)
    ]


def _count(x: NDArray[Any], y: NDArray[Any]) -> tuple[int, int, float]:
    """Count pixels that differ in bits and in value, and give the largest difference.

    Examples
    --------
    >>> _count(np.array([0.0, np.nan, 3.0]), np.array([-0.0, np.nan, 1.0]))
    (2, 1, 2.0)
    """
    with np.errstate(invalid="ignore"):
        differs = (x != y) & ~((x != x) & (y != y))  # noqa: PLR0124 - NaN is not itself
    values = int(differs.sum())
    bits = values if x.dtype != y.dtype else int(_bits_differ(x, y).sum())
    return bits, values, _largest(x[differs], y[differs]) if values else 0.0


def _bits_differ(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    width = x.dtype.itemsize
    a, b = (
        np.ascontiguousarray(v).reshape(-1).view(np.uint8).reshape(-1, width)
        for v in (x, y)
    )
    out: NDArray[np.bool_] = (a != b).any(axis=1)
    return out


def _largest(x: NDArray[Any], y: NDArray[Any]) -> float:
    if x.dtype == y.dtype and x.dtype.kind in "iu":
        # Unsigned subtraction is exact modulo 2**bits, whatever the sign.
        kind = np.dtype(f"u{x.dtype.itemsize}")
        high, low = np.maximum(x, y).view(kind), np.minimum(x, y).view(kind)
        return float((high - low).max())
    wide = np.result_type(x, y, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(x.astype(wide) - y.astype(wide))
    apart = apart[~np.isnan(apart)]
    return float(apart.max()) if apart.size else 0.0


def _differences(one: _Side, two: _Side) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Everything but the pixels that differs, by name."""
    pairs: dict[str, tuple[Any, Any]] = {
        name: (getattr(one.info, name), getattr(two.info, name))
        for name in ("shape", "dtype")
    }
    pairs["nodata"] = (_nodata(one.info), _nodata(two.info))
    pairs["mask"] = (one.mask is not None, two.mask is not None)
    pairs["overviews"] = (list(one.sizes.values()), list(two.sizes.values()))
    pairs |= _georef_pairs(one.header.georef, two.header.georef)
    for ns in sorted({*one.header.tags, *two.header.tags}):
        key = f"tags[{ns}]" if ns else "tags"
        pairs[key] = (one.header.tags.get(ns), two.header.tags.get(ns))
    for k in range(max(len(one.info.bands), len(two.info.bands))):
        x, y = _at(one.info.bands, k), _at(two.info.bands, k)
        for key in sorted({*x, *y}):
            pairs[f"band {k + 1} {key}"] = (x.get(key), y.get(key))
    for name, (x, y) in pairs.items():
        if x != y:
            yield name, (x, y)


def _at(bands: Sequence[Mapping[str, Any]], k: int) -> Mapping[str, Any]:
    return bands[k] if k < len(bands) else {}


def _nodata(info: ArrayInfo) -> tuple[Any, ...]:
    """Nodata as comparable values: NaN is not equal to itself."""
    values = tuple("nan" if v is not None and v != v else v for v in info.nodata)  # noqa: PLR0124
    return values[:1] if len(set(values)) == 1 else values


def _georef_pairs(one: Georef, two: Georef) -> dict[str, tuple[Any, Any]]:
    pairs: dict[str, tuple[Any, Any]] = {
        name: (getattr(one, name), getattr(two, name)) for name in ("gcps", "rpcs")
    }
    pairs["transform"] = (one.affine, two.affine)
    for name in ("crs", "gcps_crs"):
        x, y = getattr(one, name), getattr(two, name)
        # One CRS has many texts.
        pairs[name] = (None, None) if _same_crs(x, y) else (x, y)
    return pairs


def _same_crs(x: str | None, y: str | None) -> bool:
    if x == y or not x or not y:
        return x == y
    try:
        return known_crs(x) == known_crs(y)
    except CRSError:
        return False
