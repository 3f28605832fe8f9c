"""`info`, `spatial-info`, `query`: what a file holds, and where, without its tiles.

Strategy: everything comes from header and tile table, so one request does for most
files; each command first makes a JSON value and then prints that, as it is or as a
table.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from flac_xarray.cli.output import percent, print_json, print_pairs, print_table, size
from flac_xarray.cli.params import json_option, storage_option
from flac_xarray.cli.selection import Selection, bbox_option, window_option

if TYPE_CHECKING:
    from flac_xarray.header import ArrayInfo
    from flac_xarray.reader import FlacRaster

__all__ = ["info", "query", "spatial_info"]

LONGEST_CRS = 60


@click.command()
@click.argument("path")
@json_option
@storage_option
def info(*, path: str, as_json: bool, storage_options: dict[str, Any]) -> None:
    """Say what a FLAC raster holds."""
    from flac_xarray.reader import FlacRaster

    with FlacRaster.open(path, storage_options=storage_options) as raster:
        told = _describe(raster)
    if as_json:
        print_json(told)
        return
    first = told["arrays"][0]
    print_pairs(
        {
            "file": told["name"],
            "size": _sizes(told),
            "CRS": _short_crs(told["crs"]),
            "transform": told["transform"] and _list(told["transform"]),
            "bounds": _list(told["bounds"]),
            "dimensions": _sizes_of(first),
            "dtype": first["dtype"],
            "nodata": _list(first["nodata"]),
            "GCPs": told["gcps"] or None,
            "RPCs": "yes" if told["rpcs"] else None,
            "coordinates": ", ".join(told["coords"]) or None,
            "tags": ", ".join(f"{k}={v}" for k, v in told["tags"].get("", {}).items())
            or None,
        }
    )
    columns = ("array", "role", "level", "dtype", "shape", "tile", "tiles", "empty")
    print_table(
        columns,
        [
            (
                a["name"],
                a["role"],
                a["level"],
                a["dtype"],
                " x ".join(map(str, a["shape"])),
                " x ".join(map(str, a["tile"])),
                a["tiles"],
                "?" if a["empty_tiles"] is None else a["empty_tiles"],
            )
            for a in told["arrays"]
        ],
    )
    _print_bands(first)


@click.command("spatial-info")
@click.argument("path")
@json_option
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=25,
    show_default=True,
    help="Rows of the table; 0 for all. JSON has all.",
)
@storage_option
def spatial_info(
    *, path: str, as_json: bool, limit: int, storage_options: dict[str, Any]
) -> None:
    """List the tiles: box, window and bytes of each.

    The bytes are the first and the last one of the tile, counted from the start of the
    file, as in an HTTP Range header.
    """
    from flac_xarray.reader import FlacRaster
    from flac_xarray.spatial_index import spatial_index, tile_records

    with FlacRaster.open(path, storage_options=storage_options) as raster:
        if as_json:
            print_json(spatial_index(raster))
            return
        n_tiles = raster.array().grid.n_tiles
        shown = min(limit, n_tiles) if limit else n_tiles
        tiles = list(tile_records(raster, range(shown)))
    print_table(*_tile_table(tiles), title=f"{raster.name}: {n_tiles} tiles")
    if shown < n_tiles:
        click.echo(f"... and {n_tiles - shown} more: --limit 0 shows all")


@click.command()
@click.argument("path")
@bbox_option
@window_option
@json_option
@storage_option
def query(
    *, path: str, as_json: bool, storage_options: dict[str, Any], **chosen: Any
) -> None:
    """Say which tiles a box needs, and which bytes."""
    from flac_xarray.reader import FlacRaster

    selection = Selection(**chosen)
    with FlacRaster.open(path, storage_options=storage_options) as raster:
        told = _plan(raster, selection)
    if as_json:
        print_json(told)
        return
    print_table(*_tile_table(told["tiles"]))
    click.echo("Bytes to request, first to last:")
    for first, last in told["ranges"]:
        click.echo(f"  {first}-{last} ({size(last - first + 1)})")
    click.echo(
        f"{_count(told['tiles'], 'tile')}, {_count(told['ranges'], 'request')}, "
        f"{size(told['range_bytes'])} of {size(told['file_bytes'])} "
        f"({percent(told['range_bytes'], told['file_bytes'])} of the file)"
    )


def _describe(raster: FlacRaster) -> dict[str, Any]:
    """Give what `info` prints, as JSON."""
    header, georef = raster.header, raster.georef
    arrays = [_describe_array(raster, k) for k in range(len(header.arrays))]
    return {
        "name": raster.name,
        "file_bytes": raster.nbytes,
        "pixel_bytes": sum(a["pixel_bytes"] for a in arrays),
        "crs": georef.crs,
        "transform": list(georef.transform) if georef.transform else None,
        "bounds": list(raster.bounds()),
        "gcps": len(georef.gcps),
        "rpcs": bool(georef.rpcs),
        "arrays": arrays,
        "coords": {
            name: {"dims": list(c.dims), "shape": list(c.values.shape)}
            for name, c in header.coords.items()
        },
        "attrs": dict(header.attrs),
        "tags": {ns: dict(tags) for ns, tags in header.tags.items()},
        "requests": raster.source.counters.requests,
    }


def _describe_array(raster: FlacRaster, position: int) -> dict[str, Any]:
    from flac_xarray.dtypes import itemsize, nodata_to_json

    array: ArrayInfo = raster.header.arrays[position]
    tables = raster.index.tables
    return {
        "name": array.name,
        "role": array.role,
        "level": array.level,
        "dtype": array.dtype,
        "dims": list(array.dims),
        "shape": list(array.shape),
        "tile": list(array.tile),
        "tiles": array.grid.n_tiles,
        # Of a table that is read by pages nothing is read for this.
        "empty_tiles": tables and int((tables[position].rows["nbytes"] == 0).sum()),
        "pixel_bytes": math.prod(array.shape) * itemsize(array.dtype),
        "nodata": [nodata_to_json(v, array.name) for v in array.nodata],
        "attrs": dict(array.attrs),
        "bands": [dict(band) for band in array.bands],
    }


def _plan(raster: FlacRaster, selection: Selection) -> dict[str, Any]:
    """Give what `query` prints, as JSON; ranges are inclusive, as in `spatial-info`."""
    from flac_xarray.spatial_index import tile_records

    window, _ = selection.resolve(raster)
    shape = raster.array().shape
    height, width = shape[-2:]
    plan = raster.plan((*(slice(0, n) for n in shape[:-2]), *window.slices))
    return {
        "bbox": list(raster.georef.bounds(height, width, window)),
        "window": [window.col_off, window.row_off, window.width, window.height],
        "tiles": list(tile_records(raster, [cut.number for cut in plan.cuts])),
        "ranges": [[r.start, r.stop - 1] for r in plan.requests],
        "tile_bytes": plan.tile_nbytes,
        "range_bytes": plan.request_nbytes,
        "file_bytes": raster.nbytes,
    }


def _tile_table(
    tiles: list[dict[str, Any]],
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Columns and rows of a table of tiles."""
    columns: tuple[str, ...] = ("id", "bbox", "window", "bytes", "size")
    planes = any("index" in tile for tile in tiles)
    if planes:  # else tiles of several bands look alike
        columns = ("id", "index", *columns[1:])
    rows: list[tuple[object, ...]] = []
    for tile in tiles:
        first, last = tile["byte_range"] or (0, -1)
        span = f"{first}-{last}" if tile["byte_range"] else "empty"
        rows.append(
            (
                tile["id"],
                *([",".join(map(str, tile["index"]))] if planes else ()),
                _list(tile["bbox"]),
                ",".join(map(str, tile["window"])),
                span,
                last - first + 1,
            )
        )
    return columns, rows


def _print_bands(array: dict[str, Any]) -> None:
    bands = array["bands"]
    keys = ("description", "units", "scale", "offset", "colorinterp")
    used = [key for key in keys if any(key in band for band in bands)]
    if used:
        rows = [(k, *(b.get(key, "") for key in used)) for k, b in enumerate(bands, 1)]
        print_table(("band", *used), rows)


def _sizes(told: dict[str, Any]) -> str:
    pixels, nbytes = told["pixel_bytes"], told["file_bytes"]
    if not nbytes:
        return f"{size(nbytes)}, {size(pixels)} of pixels"
    return f"{size(nbytes)}, {size(pixels)} of pixels ({pixels / nbytes:.2f}x)"


def _sizes_of(array: dict[str, Any]) -> str:
    pairs = zip(array["dims"], array["shape"], strict=True)
    return ", ".join(f"{dim} {n}" for dim, n in pairs)


def _list(values: list[Any]) -> str:
    """Numbers in one line, without more digits than they need."""
    texts = [f"{v:.10g}" if isinstance(v, float) else str(v) for v in values]
    return ", ".join("none" if text == "None" else text for text in texts)


def _short_crs(crs: str | None) -> str:
    """Give an authority code as it is, and of WKT the name."""
    if crs is None:
        return "none"
    if len(crs) <= LONGEST_CRS:
        return crs
    kind, _, rest = crs.partition('["')
    return f"{rest.partition(chr(34))[0]} ({kind}; --json has all of it)"


def _count(things: list[Any], name: str) -> str:
    return f"1 {name}" if len(things) == 1 else f"{len(things)} {name}s"
