"""Writing into a file that is there: regions of a template, and appending.

Strategy: what is written must mean the same as what the file holds, so it is encoded
with the file's own dtype, scales and tiles, and then compared with it as files that are
joined are (`header_join`). Whatever does not fit is refused before a byte is written.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from flac_xarray.cf_encoding import CF_ENCODING
from flac_xarray.cf_layout import cf_dataset, from_json_attrs, is_cf
from flac_xarray.container import pack_header
from flac_xarray.dask_writer import (
    BlockSource,
    begin_place,
    encoded_blocks,
    joined_graph,
)
from flac_xarray.dataset_plan import DatasetPlan, as_dataset, plan_dataset
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.file_join import check_copyable, copies, still_the_same
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.header_join import check_alike, join_along
from flac_xarray.lazy_array import RasterRef
from flac_xarray.region_file import RegionFile, read_header
from flac_xarray.sinks import FileSink
from flac_xarray.tile_encoder import TileEncoder
from flac_xarray.tile_job import Place, TileJob
from flac_xarray.tile_table import ENTRY_DTYPE, TileTable

if TYPE_CHECKING:
    from dask.delayed import Delayed

__all__ = ["Region", "append_task", "region_task", "write_template"]

Region = str | Mapping[str, slice | str]
"""Slices by dim, or ``"auto"``: found by the coordinates, for one dim or all."""


def write_template(
    data: xr.Dataset | xr.DataArray,
    target: str | os.PathLike[str],
    *,
    encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
    tile_size: int | Mapping[str, int] = 512,
    overwrite: bool = False,
) -> None:
    """Write a file without pixels, whose tiles ``write(..., region=...)`` fills in.

    Any number of jobs may fill it at once, from any number of machines that share the
    file system, each with tiles of its own. Reading a tile that no job has written is
    an error.

    Parameters
    ----------
    data
        Its pixels are not computed: dask arrays of the right shape and dtype will do.
    target
        Path of a local or shared file: objects of a store cannot be written in place.
    encoding, tile_size, overwrite
        As for `write`.

    Raises
    ------
    UnsupportedDataError
        Something cannot be stored.
    FileExistsError
        The target exists and `overwrite` is false.
    """
    header = plan_dataset(data, encoding=encoding, tile_size=tile_size).header
    tables = [
        TileTable(np.zeros(info.grid.n_tiles, ENTRY_DTYPE)) for info in header.arrays
    ]
    sink = FileSink(_local(target), overwrite=overwrite)
    try:
        sink.put(pack_header(header, tables, 0), 0)
        sink.commit()
    except BaseException:
        sink.abort()
        raise


def region_task(
    data: xr.Dataset | xr.DataArray,
    target: str | os.PathLike[str],
    region: Region,
    *,
    effort: int,
    interleave: str,
) -> tuple[Delayed, Place]:
    """Give the task that writes a part of a file.

    Parameters
    ----------
    data
        The part.
    target
        Path of the file.
    region
        Where it lies.
    effort, interleave
        As for `write`.

    Raises
    ------
    UnsupportedDataError
        It does not fit into the file, or is not made of whole tiles.
    """
    path = _local(target)
    header, layout = read_header(path)
    name = str(path)
    _check_cf(header, name)
    if header.levels != (0,):
        msg = f"{name} has overviews, which region= would leave as they are"
        raise UnsupportedDataError(msg)
    ds = as_dataset(data)
    # Only its coordinates are looked at: no pixel is read through this reference.
    whole = cf_dataset(RasterRef(name), header, 0, {})
    where = _resolve(region, ds, whole)
    _check_coordinates(ds, whole, where, header, name)
    plan = _plan_like(ds, header)
    sources = []
    for variable, info in zip(plan.arrays, plan.header.arrays, strict=True):
        position = _find(header, info, name)
        start = _start(header.arrays[position], info, where, header, name)
        sources.append(BlockSource(variable, position, start))
    place = RegionFile(path, layout.tables)
    place.begin()
    job = TileJob(TileEncoder(header, effort, interleave), place)
    token = uuid.uuid4().hex
    return joined_graph(*encoded_blocks(sources, job, token), job, token), place


def append_task(
    plan_of: Any,
    data: xr.Dataset | xr.DataArray,
    target: str | os.PathLike[str],
    dim: str,
    *,
    storage_options: Mapping[str, Any] | None,
    effort: int,
    interleave: str,
) -> tuple[Delayed, Place]:
    """Give the task that makes a file anew, with more along one of its dims.

    Parameters
    ----------
    plan_of
        Adds overviews to a plan.
    data
        What comes behind.
    target
        Path or URL of the file; it is replaced when the new one is whole.
    dim
        Which dim.
    storage_options, effort, interleave
        As for `write`.

    Raises
    ------
    UnsupportedDataError
        It does not fit behind what the file holds.
    """
    ref = RasterRef.open(target, storage_options)
    raster = ref.raster()
    check_copyable(raster)
    old = raster.header
    _check_cf(old, raster.name)
    plan: DatasetPlan = plan_of(_plan_like(as_dataset(data), old))
    for info in plan.header.arrays:
        if _file_dim(old, dim) not in info.dims:
            msg = (
                f"variable {info.name!r} has no dim {dim!r}: the file keeps its own: "
                f"leave it out, as .drop_vars({info.name!r}) does"
            )
            raise UnsupportedDataError(msg)
    headers = [old, _with_georef(plan.header, old)]
    joining = join_along(
        headers, [raster.name, "what is appended"], _file_dim(old, dim)
    )
    place = begin_place(
        target, joining.header, overwrite=True, storage_options=storage_options
    )
    job = TileJob(TileEncoder(joining.header, effort, interleave), place)
    token = uuid.uuid4().hex
    try:
        sources = []
        for k, variable in enumerate(plan.arrays):
            position, first = joining.places[1][k] or (0, ())
            tile = joining.header.arrays[position].tile
            start = tuple(i * t for i, t in zip(first, tile, strict=True))
            sources.append(BlockSource(variable, position, start))
        graph, leaves = copies(joining, 0, ref, token)
        more, some = encoded_blocks(sources, job, token)
        check = (still_the_same, f"flac-source-0-{token}")
        task = joined_graph({**graph, **more}, leaves + some, job, token, check)
    except BaseException:
        place.abort()
        raise
    return task, place


def _local(target: str | os.PathLike[str]) -> Path:
    text = os.fspath(target).removeprefix("file://")
    if "://" in text or "::" in text:
        msg = (
            f"{text.split('?', maxsplit=1)[0]}: objects of a store cannot be written "
            "in place: write a file for each part, and join them with flac_xarray.merge"
        )
        raise UnsupportedDataError(msg)
    return Path(text).expanduser().absolute()


def _check_cf(header: Header, name: str) -> None:
    if not is_cf(header):
        msg = (
            f"{name} was made of a raster, not of a Dataset: write what is new "
            "into a file of its own, and join them with flac_xarray.merge"
        )
        raise UnsupportedDataError(msg)


def _file_dim(header: Header, dim: str) -> str:
    """Give a dim its name in the file."""
    plane: dict[str, str] = dict(zip(header.extra["plane"], ("y", "x"), strict=True))
    return plane.get(dim, dim)


def _plan_like(ds: xr.Dataset, header: Header) -> DatasetPlan:
    """Plan a Dataset with the dtypes, scales and tiles of a file."""
    names = dict(zip(("y", "x"), header.extra["plane"], strict=True))
    encoding: dict[Hashable, dict[str, Any]] = {}
    tile_size: dict[str, int] = {}
    for info in header.arrays:
        if info.level or info.name not in ds.variables:
            continue
        tile_size |= {
            names.get(d, d): t for d, t in zip(info.dims, info.tile, strict=True)
        }
        attrs = from_json_attrs(info.attrs)
        kind = ds.variables[info.name].dtype.kind
        own: dict[str, Any] = {
            str(k): attrs[k] for k in CF_ENCODING if k in attrs and k != "dtype"
        }
        if kind not in "mM":
            own = {k: v for k, v in own.items() if k not in ("units", "calendar")}
        if kind != "b":
            own |= {"dtype": info.dtype, "_FillValue": info.nodata[0]}
        # Pixels as they are stored, opened so, say in attributes what they are.
        raw = ds.variables[info.name].attrs
        own = {k: v for k, v in own.items() if k not in raw}
        encoding[info.name] = own | dict(info.extra.get("encoding", {}))
    return plan_dataset(ds, encoding=encoding, tile_size=tile_size)


def _with_georef(header: Header, old: Header) -> Header:
    """Take data without a CRS of its own to lie where the file lies."""
    crs = header.georef.crs or old.georef.crs
    return replace(header, georef=replace(header.georef, crs=crs))


def _resolve(region: Region, ds: xr.Dataset, whole: xr.Dataset) -> dict[str, slice]:
    """Give one slice for each dim of the part."""
    if isinstance(region, str):
        region = {str(dim): region for dim in ds.indexes if dim in whole.dims}
    unknown = sorted(set(region) - {str(d) for d in whole.dims})
    if unknown:
        msg = f"region names {unknown}: the file has dims {tuple(whole.dims)}"
        raise ValueError(msg)
    where = {}
    for dim, n in whole.sizes.items():
        wanted = region.get(str(dim), slice(None))
        if isinstance(wanted, str):
            wanted = _found(str(dim), wanted, ds, whole)
        start, stop, step = wanted.indices(n)
        size = ds.sizes.get(dim, stop - start)
        if step != 1 or stop - start != size:
            msg = (
                f"region {dim!r} is {wanted}, {stop - start} of {n} pixels: the data "
                f"has {size}"
            )
            raise ValueError(msg)
        where[str(dim)] = slice(start, stop)
    return where


def _found(dim: str, how: str, ds: xr.Dataset, whole: xr.Dataset) -> slice:
    if how != "auto" or dim not in ds.indexes or dim not in whole.variables:
        msg = f"region {dim!r}: expected a slice, or 'auto' where both have its index"
        raise ValueError(msg)
    at = whole.variables[dim].to_index().get_indexer(ds.indexes[dim])
    if not len(at) or (at < 0).any() or (np.diff(at) != 1).any():
        msg = f"region {dim!r}: its coordinates are not a run of those in the file"
        raise ValueError(msg)
    return slice(int(at[0]), int(at[-1]) + 1)


def _check_coordinates(
    ds: xr.Dataset,
    whole: xr.Dataset,
    where: Mapping[str, slice],
    header: Header,
    name: str,
) -> None:
    """Refuse what lies in the file's header and is not the same there."""
    tiled = {info.name for info in header.arrays}
    for key, variable in ds.variables.items():
        if key in tiled:
            continue
        plane = set(header.extra["plane"]) <= set(variable.dims)
        if plane and key not in whole.variables:
            msg = f"{name} has no variable {key!r}: it has {list(whole.variables)}"
            raise UnsupportedDataError(msg)
        there = whole.variables.get(key)
        if there is not None:
            there = there.isel({d: s for d, s in where.items() if d in there.dims})
        same = there is not None and there.equals(variable)  # type: ignore[no-untyped-call]
        if not same:
            msg = (
                f"variable {key!r} is not the same in {name}, whose header cannot "
                f"change: leave it out, as .drop_vars({key!r}) does"
            )
            raise UnsupportedDataError(msg)


def _find(header: Header, info: ArrayInfo, name: str) -> int:
    try:
        position = header.find(info.name)
    except KeyError as error:
        msg = f"{name} has no variable {info.name!r}: {error.args[0]}"
        raise UnsupportedDataError(msg) from error
    check_alike(header.arrays[position], info, f"the region of {name}", None)
    return position


def _start(
    there: ArrayInfo,
    info: ArrayInfo,
    where: Mapping[str, slice],
    header: Header,
    name: str,
) -> tuple[int, ...]:
    """Give the first pixel of the region in an array; refuse parts of tiles."""
    names = dict(zip(("y", "x"), header.extra["plane"], strict=True))
    start = []
    for dim, n, t in zip(there.dims, there.shape, there.tile, strict=True):
        s = where[names.get(dim, dim)]
        if s.start % t or (s.stop % t and s.stop != n):
            msg = (
                f"region {dim!r} {s.start}:{s.stop} of {name} is not made of whole "
                f"tiles of {t}: array {info.name!r} has {n} pixels there"
            )
            raise UnsupportedDataError(msg)
        start.append(s.start)
    return tuple(start)
