"""`convert`: a raster to a FLAC raster, or back.

Strategy: what the source *is* decides the direction, by its first bytes; the target's
extension must then agree, so that no file is written under the name of another kind.
"""

from __future__ import annotations

import contextlib
import errno
import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

import click

from flac_xarray.cli.output import print_json, progress_bar, shown, size
from flac_xarray.cli.params import OVERVIEWS, json_option, storage_option
from flac_xarray.resampling import METHODS

if TYPE_CHECKING:
    from flac_xarray.header import ArrayInfo
    from flac_xarray.reader import FlacRaster

__all__ = ["convert"]

INTERLEAVES: Final[dict[str, dict[str, Any]]] = {
    "auto": {},
    "band": {"bands_per_tile": 1, "interleave": "band"},
    "pixel": {"bands_per_tile": 8, "interleave": "pixel"},
}
"""Options of the writer; FLAC has at most 8 channels."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What to convert to what."""

    source: str
    target: str
    overwrite: bool = False
    quiet: bool = False
    as_json: bool = False
    threads: int | None = None
    storage_options: dict[str, Any] = field(default_factory=dict)


@click.command()
@click.argument("source", metavar="SRC")
@click.option(
    "-o",
    "--output",
    "target",
    metavar="DST",
    help="Target; without it SRC with the other extension, .flac or .tif.",
)
@click.option(
    "--tile-size",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Rows and columns of a tile.",
)
@click.option(
    "--effort",
    "--level",
    "-c",
    "--compression",
    type=click.IntRange(0, 9),
    default=5,
    show_default=True,
    help="0 is fastest, 9 smallest.",
)
@click.option(
    "--interleave",
    type=click.Choice(list(INTERLEAVES)),
    default="auto",
    show_default=True,
    help="One band a tile, or up to 8 bands of a tile as the channels of its stream.",
)
@click.option(
    "--profile",
    type=click.Choice(["flac-raster", "raw"]),
    help="Write an old form: what flac-raster 0.1.2 opens, or one FLAC stream.",
)
@click.option(
    "--overviews",
    type=OVERVIEWS,
    default="source",
    show_default=True,
    help="Those of the source; auto: halves until one tile is enough; 2,4,8; none.",
)
@click.option(
    "--resampling",
    type=click.Choice(METHODS),
    default="nearest",
    show_default=True,
    help="How overviews are made.",
)
@click.option(
    "--overwrite", "-f", "--force", is_flag=True, help="Replace an existing target."
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that encode or decode."
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@click.option("--spatial", "-s", is_flag=True, hidden=True, help="Always on.")
@click.option("--verbose", "-v", is_flag=True, hidden=True, expose_value=False)
@json_option
@storage_option
def convert(  # noqa: PLR0913
    *,
    source: str,
    target: str | None,
    tile_size: int,
    effort: int,
    interleave: str,
    spatial: bool,
    profile: str | None,
    overviews: str | tuple[int, ...],
    resampling: str,
    **common: Any,
) -> None:
    """Convert a raster to a FLAC raster, or a FLAC raster back.

    What SRC is decides the direction: a FLAC raster becomes a GeoTIFF, every other
    raster that rasterio reads a FLAC raster. With --profile either becomes a file of an
    old form. DST appears whole or not at all.
    """
    del spatial  # every file has a spatial index
    job = _Job(source, target or "", **common)
    started = time.perf_counter()
    with _flac_raster(job) as raster:
        if target is None:
            job = replace(job, target=_default_target(source, raster, profile))
        options = {"tile_size": tile_size, "effort": effort}
        if profile is not None:
            pixels = _encode_legacy(job, raster, options | {"profile": profile})
        elif raster is None:
            levels = {"overviews": overviews, "resampling": resampling}
            pixels = _encode(job, options | INTERLEAVES[interleave] | levels)
        else:
            pixels = _decode(job, raster, overviews)
    if not job.quiet:
        seconds = time.perf_counter() - started
        is_encoded = raster is None or profile is not None
        _report(job, pixels, seconds, is_encoded=is_encoded)


def _default_target(source: str, raster: FlacRaster | None, profile: str | None) -> str:
    """Name the target after a local source, as flac-raster 0.1.2 does."""
    path = Path(source)
    suffix = ".flac" if raster is None or profile is not None else ".tif"
    if not path.is_file() or path.suffix == suffix:
        msg = f"no name for the target follows from {shown(source)}: give one"
        raise click.BadParameter(msg, param_hint="'-o'")
    return str(path.with_suffix(suffix))


@contextlib.contextmanager
def _flac_raster(job: _Job) -> Iterator[FlacRaster | None]:
    """Open the source if it is a FLAC raster; None when rasterio is to be asked."""
    from flac_xarray.errors import NotFlacRasterError
    from flac_xarray.reader import FlacRaster

    if _is_for_gdal(job.source):
        path = Path(job.source)
        # GDAL's own names have a colon, a comma or a prefix.
        if path.suffix == ".flac" and not re.search("[:,<]|^/vsi", job.source):
            raise FileNotFoundError(errno.ENOENT, "no such file", job.source)
        yield None
        return
    try:
        raster = FlacRaster.open(
            job.source, storage_options=job.storage_options, threads=job.threads
        )
    except NotFlacRasterError:
        yield None
        return
    with raster:
        yield raster


def _is_for_gdal(source: str) -> bool:
    """Whether a name is rasterio's alone: NETCDF:a.nc:sst, zip://a.zip!b.tif, ...

    Examples
    --------
    >>> _is_for_gdal("zip+https://host/a.zip!b.tif"), _is_for_gdal("https://host/b.tif")
    (True, False)
    """
    scheme, is_url, _ = source.partition("://")
    if not is_url:
        return not Path(source).is_file()
    return "::" not in source and ("+" in scheme or scheme in ("zip", "tar", "gzip"))


def _encode(job: _Job, options: dict[str, Any]) -> int:
    """Write a FLAC raster; give the bytes of its pixels."""
    from flac_xarray.geotiff import (
        convert_to_flac,
        header_from_dataset,
        open_dataset,
        translated_errors,
    )

    _check_flac_name(
        job, f"{shown(job.source)} is no FLAC raster, so the output is one"
    )
    with open_dataset(job.source) as dataset:
        with translated_errors(job.source, "read"):
            total = _pixel_nbytes(header_from_dataset(dataset).arrays)
            expected = total * (1 + _share(options["overviews"], dataset))
        with progress_bar("Encoding", round(expected), quiet=job.quiet) as progress:
            convert_to_flac(
                dataset,
                job.target,
                overwrite=job.overwrite,
                threads=job.threads,
                storage_options=job.storage_options,
                progress=progress,
                **options,
            )
    return total


def _share(overviews: str | tuple[int, ...], dataset: Any) -> float:
    """Give the pixels of the overviews, as a part of those of the raster."""
    if overviews == "source":
        overviews = tuple(dataset.overviews(1))
    if isinstance(overviews, str):
        return 1 / 3 if overviews == "auto" else 0.0
    return sum(1 / factor**2 for factor in overviews if factor)


def _encode_legacy(
    job: _Job, raster: FlacRaster | None, options: dict[str, Any]
) -> int:
    """Write a file of an old form; give the bytes of its pixels."""
    from flac_xarray.geotiff import convert_to_legacy, open_dataset

    _check_flac_name(job, f"the output is a {options['profile']} file")
    with contextlib.ExitStack() as stack:
        source = raster or stack.enter_context(open_dataset(job.source))
        bar = progress_bar("Encoding", None, quiet=job.quiet)
        header = convert_to_legacy(
            source,
            job.target,
            overwrite=job.overwrite,
            threads=job.threads,
            storage_options=job.storage_options,
            progress=stack.enter_context(bar),
            **options,
        )
    return _pixel_nbytes(header.arrays)


def _check_flac_name(job: _Job, why: str) -> None:
    """Refuse a target that has the extension of another format."""
    if _driver(job.target) is not None:
        msg = f"{why}: give {shown(job.target)} the extension .flac"
        raise click.BadParameter(msg, param_hint="'-o'")


def _decode(job: _Job, raster: FlacRaster, overviews: str | tuple[int, ...]) -> int:
    """Write a GeoTIFF; give the bytes of its pixels."""
    from flac_xarray.geotiff import convert_to_geotiff

    if overviews not in ("source", "none"):
        msg = "a GeoTIFF takes those of the FLAC raster (source) or none"
        raise click.BadParameter(msg, param_hint="'--overviews'")
    # Other formats cannot hold what a GeoTIFF holds without a second file beside them.
    if _driver(job.target) != "GTiff":
        msg = (
            f"{shown(job.source)} is a FLAC raster, so the output will be a GeoTIFF: "
            f"give {shown(job.target)} the extension .tif"
        )
        raise click.BadParameter(msg, param_hint="'-o'")
    total = _pixel_nbytes([raster.array()])
    with progress_bar("Decoding", total, quiet=job.quiet) as progress:
        convert_to_geotiff(
            raster,
            job.target,
            overwrite=job.overwrite,
            threads=job.threads,
            overviews=overviews == "source",
            progress=progress,
        )
    return total


def _driver(target: str) -> str | None:
    """GDAL's driver for a file's extension, None without one."""
    from rasterio.drivers import driver_from_extension

    name = target.split("?", maxsplit=1)[0] if "://" in target else target
    try:
        driver: str = driver_from_extension(name)
    except ValueError:
        return None
    return driver


def _pixel_nbytes(arrays: Iterable[ArrayInfo]) -> int:
    from flac_xarray.dtypes import numpy_dtype

    return sum(math.prod(a.shape) * numpy_dtype(a.dtype).itemsize for a in arrays)


def _report(job: _Job, pixels: int, seconds: float, *, is_encoded: bool) -> None:
    names = (job.source, job.target)
    sizes = [_file_nbytes(name) for name in names]
    flac_nbytes = sizes[1 if is_encoded else 0]
    if job.as_json:
        print_json(
            {
                "source": shown(job.source),
                "target": shown(job.target),
                "source_bytes": sizes[0],
                "target_bytes": sizes[1],
                "pixel_bytes": pixels,
                "ratio": pixels / flac_nbytes if flac_nbytes else None,
                "seconds": seconds,
            }
        )
        return
    before, after = (
        PurePath(shown(name)).name + ("" if nbytes is None else f" {size(nbytes)}")
        for name, nbytes in zip(names, sizes, strict=True)
    )
    told = f"{before} -> {after}; pixels {size(pixels)}"
    if flac_nbytes:
        told += f", ratio {pixels / flac_nbytes:.2f}"
    click.echo(f"{told}; {seconds:.1f} s, {size(pixels / max(seconds, 1e-6))}/s")


def _file_nbytes(name: str) -> int | None:
    path = Path(name.removeprefix("file://"))
    return path.stat().st_size if path.is_file() else None
