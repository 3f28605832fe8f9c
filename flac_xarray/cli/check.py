"""`compare` and `validate`: is it the same, is it whole.

Strategy: the work is `flac_xarray.compare` and `flac_xarray.validate`; here their
values become text or JSON, and the exit code is 1 when the answer is no.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from flac_xarray.cli.output import print_json, print_table, progress_bar, shown
from flac_xarray.cli.params import json_option, storage_option

if TYPE_CHECKING:
    from flac_xarray.compare import BandDifference, Comparison

__all__ = ["compare", "validate"]

LONGEST = 60


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--strict", is_flag=True, help="Metadata must agree too.")
@json_option
@storage_option
@click.pass_context
def compare(
    ctx: click.Context,
    *,
    a: str,
    b: str,
    strict: bool,
    as_json: bool,
    storage_options: dict[str, Any],
) -> None:
    """Compare two rasters, FLAC or not, band by band.

    Ends with exit code 1 when pixels differ, with --strict also when metadata does.
    Pixels are equal when every bit is: NaN payloads and the sign of zero count.
    """
    from flac_xarray.compare import compare_rasters

    with progress_bar("Comparing", None, quiet=as_json) as progress:
        found = compare_rasters(
            a, b, storage_options=storage_options, progress=progress
        )
    same = found.equal if strict else found.equal_pixels
    if as_json:
        print_json({"equal": same, **_comparison_json(found)})
    else:
        rows = [
            (
                "mask" if band.band == 0 else str(band.band),
                "equal" if band.equal else "DIFFERENT",
                band.n_different,
                band.n_different_bits,
                band.max_difference,
            )
            for band in found.bands
        ]
        if rows:
            columns = ("band", "pixels", "values differ", "bits differ", "max diff.")
            print_table(columns, rows)
        for line in _overview_lines(found):
            click.echo(line)
        for name, (x, y) in found.differences.items():
            click.echo(f"{name}: {_short(x)} against {_short(y)}")
        click.echo(_verdict(found))
    ctx.exit(0 if same else 1)


@click.command()
@click.argument("path")
@click.option("--full", is_flag=True, help="Decode every tile; check CRC and MD5.")
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing, end with the code.")
@storage_option
@click.pass_context
def validate(
    ctx: click.Context,
    *,
    path: str,
    full: bool,
    as_json: bool,
    quiet: bool,
    storage_options: dict[str, Any],
) -> None:
    """Check that a FLAC raster is whole.

    Ends with exit code 1 when it is not. Without --full: header, checksum of the
    header, tile tables, size. With it, every tile is fetched and decoded.
    """
    from flac_xarray.validate import validate_raster

    with progress_bar("Checking", None, quiet=quiet or as_json) as progress:
        report = validate_raster(
            path, full=full, storage_options=storage_options, progress=progress
        )
    if as_json:
        print_json(
            {
                "valid": report.ok,
                "full": full,
                "tiles_checked": report.n_tiles,
                "errors": list(report.errors),
                "warnings": list(report.warnings),
            }
        )
    elif not quiet:
        for text in report.errors:
            click.echo(f"error: {text}")
        for text in report.warnings:
            click.echo(f"warning: {text}")
        checked = f"{report.n_tiles} tiles decoded" if full else "structure"
        click.echo(
            f"{shown(path)}: {'valid' if report.ok else 'NOT VALID'} ({checked})"
        )
    ctx.exit(0 if report.ok else 1)


def _overview_lines(found: Comparison) -> Iterator[str]:
    """Say of each overview that both have whether it is equal."""
    for level in sorted({band.level for band in found.overviews}):
        bands = [b for b in found.overviews if b.level == level]
        different = [b for b in bands if not b.equal]
        told = "equal"
        if different:
            n = sum(b.n_different for b in different)
            most = max(b.max_difference for b in different)
            told = f"DIFFERENT, {n} values by up to {most:g}"
        yield f"overview {level - 1}: {told}"


def _verdict(found: Comparison) -> str:
    if not found.equal_pixels:
        return "different"
    if found.equal:
        return "equal"
    overviews = all(band.equal for band in found.overviews)
    what = "metadata" if overviews else "overviews"
    return f"pixels equal, {what} different"


def _comparison_json(found: Comparison) -> dict[str, Any]:
    return {
        "equal_pixels": found.equal_pixels,
        "bands": [_band_json(band) for band in found.bands],
        "overviews": [
            {"overview_level": band.level - 1, **_band_json(band)}
            for band in found.overviews
        ],
        "differences": {
            name: [_plain(x), _plain(y)] for name, (x, y) in found.differences.items()
        },
    }


def _band_json(band: BandDifference) -> dict[str, Any]:
    return {
        "band": band.band,
        "equal": band.equal,
        "pixels": band.n_pixels,
        "different_values": band.n_different,
        "different_bits": band.n_different_bits,
        "max_difference": _plain(band.max_difference),
    }


def _plain(value: Any) -> Any:
    """Give a value that JSON has; others as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return str(value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
