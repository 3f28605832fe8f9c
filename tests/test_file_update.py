"""Filling a template, appending and joining: tiles move, pixels and checks stay."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401  (registers `.rio`)
import xarray as xr

from flac_xarray import (
    CorruptTileError,
    FormatError,
    SourceError,
    UnsupportedDataError,
    convert_to_flac,
    merge,
    write,
    write_array,
    write_template,
)
from flac_xarray.errors import SourceChangedError
from flac_xarray.reader import FlacRaster
from flac_xarray.tile_encoder import TileEncoder
from flac_xarray.validate import validate_raster
from tests.test_dask_writing import bucket  # noqa: F401  (a fixture)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")
RNG = np.random.default_rng(17)
NY, NX, TILE = 150, 130, 50


def cube(n: int, start: str = "2026-01-01", seed: int = 0) -> xr.Dataset:
    """Some days of a place, scaled to integers, with voids."""
    rng = np.random.default_rng(seed)
    values = np.round(np.cumsum(rng.normal(size=(n, NY, NX)), -1), 2)
    values[:, :20, :20] = np.nan
    ds = xr.Dataset(
        {
            "t2m": (("time", "y", "x"), values, {"units": "K"}),
            "count": (("time", "y", "x"), rng.integers(0, 9, (n, NY, NX), "uint8")),
        },
        coords={
            "time": pd.date_range(start, periods=n, freq="D"),
            "x": np.arange(NX) * 10.0 + 5,
            "y": 2000 - np.arange(NY) * 10.0 - 5,
        },
    )
    ds.t2m.encoding = {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -32768}
    return ds.rio.write_crs("EPSG:32618")


def reopen(target, **options) -> xr.Dataset:
    with xr.open_dataset(target, engine="flacraster", **options) as ds:
        return ds.load()


def assert_valid(target, **storage) -> None:
    report = validate_raster(target, full=True, **storage)
    assert report.ok, report


def assert_same(got: xr.Dataset, expected: xr.Dataset) -> None:
    """Equal to the digits that the scales keep; all else identical."""
    xr.testing.assert_identical(got.drop_vars("t2m"), expected.drop_vars("t2m"))
    np.testing.assert_allclose(got.t2m, expected.t2m, atol=1e-4)
    assert got.t2m.attrs == expected.t2m.attrs


# Templates and regions


def test_jobs_fill_one_file(tmp_path):
    whole = cube(4)
    target = tmp_path / "a.flac"
    write_template(whole, target, tile_size=TILE)
    with pytest.raises(CorruptTileError, match="missing"):
        reopen(target)
    halves = [slice(0, 100), slice(100, NY)]
    parts = [{"time": slice(t, t + 1), "y": rows} for t in range(4) for rows in halves]

    def job(region):
        part = whole.isel(region)
        if region["y"].start:
            part = part.chunk({"x": 40})
        write(part, target, region=region)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(job, parts))
    assert_same(reopen(target), whole)
    assert_valid(target)
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


JOB = """
import sys, xarray as xr, flac_xarray
source, target, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
ds = xr.open_dataset(source, engine="flacraster")
part = ds.isel(time=slice(start, start + 1)).chunk({"y": 50, "x": 50})
flac_xarray.write(part, target, region="auto")
"""


def test_processes_fill_one_file(tmp_path):
    write(cube(2), tmp_path / "source.flac", tile_size=TILE)
    source = reopen(tmp_path / "source.flac")
    target = tmp_path / "a.flac"
    write_template(source, target, tile_size=TILE)
    command = [sys.executable, "-c", JOB, tmp_path / "source.flac", target]
    jobs = [subprocess.Popen([*command, str(k)]) for k in range(2)]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    xr.testing.assert_identical(reopen(target), source)
    assert_valid(target)


def test_a_template_computes_nothing(tmp_path):
    def never(block):
        raise AssertionError(block)

    lazy = da.map_blocks(
        never, chunks=((64, 64), (64,)), dtype="f4", meta=np.zeros((0, 0), "f4")
    )
    ds = xr.Dataset({"a": (("y", "x"), lazy)})
    write_template(ds, tmp_path / "a.flac", tile_size=64)
    write(ds[["a"]].isel(y=slice(0, 64)) * 0 + 1, tmp_path / "a.flac", compute=False,
          region={"y": slice(0, 64)})  # fmt: skip
    ones = xr.Dataset({"a": (("y", "x"), np.ones((64, 64), "f4"))})
    write(ones, tmp_path / "a.flac", region={"y": slice(64, 128)})
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        assert raster.array("a").dtype == "float32"
        assert (raster.read_selection((slice(64, 128), slice(0, 64))) == 1).all()
        with pytest.raises(CorruptTileError, match="missing"):
            raster.read()


def test_a_region_of_a_finished_file_is_written_anew(tmp_path):
    target = tmp_path / "a.flac"
    write(cube(3), target, tile_size=TILE)
    other = cube(3, seed=9).isel(time=[1])
    write(other, target, region="auto")
    expected = xr.concat(
        [cube(3).isel(time=[0]), other, cube(3).isel(time=[2])], "time"
    )
    assert_same(reopen(target), expected.transpose("time", ...))
    assert_valid(target)


def test_a_failed_region_leaves_every_tile_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "a.flac"
    write(cube(2), target, tile_size=TILE)

    def fail(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][1:] == (2, 2):
            msg = "no luck"
            raise RuntimeError(msg)
        return block

    part = cube(2, seed=3).isel(time=[0]).chunk({"y": TILE, "x": TILE})
    data = part.t2m.data.map_blocks(fail, dtype="f8")
    # Threads that are at work when one fails go on, and let the file grow.
    monkeypatch.setitem(dask.config.config, "scheduler", "synchronous")
    with pytest.raises(RuntimeError, match="no luck"):
        write(part.assign(t2m=part.t2m.copy(data=data)), target, region="auto")
    assert_same(reopen(target), cube(2))
    assert_valid(target)
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(SourceError, match="No space left"):
        write(cube(2, seed=3).isel(time=[0]), target, region="auto")
    monkeypatch.undo()
    assert_same(reopen(target), cube(2))


REGION_REFUSALS = {
    "cut tile": (lambda ds: ds.isel(y=slice(0, 40)), {"y": slice(0, 40)}, "whole tile"),
    "size": (lambda ds: ds, {"time": slice(0, 1)}, "1 of 2 pixels"),
    "dim": (lambda ds: ds, {"level": slice(0, 1)}, "level"),
    "coordinates": (
        lambda ds: ds.isel(time=[0]).assign_coords(time=pd.DatetimeIndex(["1999"])),
        {"time": slice(0, 1)},
        "'time' is not the same",
    ),
    "no run": (lambda ds: ds.isel(time=[1, 0]), "auto", "not a run"),
    "variable": (lambda ds: ds.rename(t2m="t3m"), {}, "no variable 't3m'"),
    "units": (
        lambda ds: ds.assign(t2m=ds.t2m.assign_attrs(units="C")),
        {},
        "units.*'K'.*'C'",
    ),
}


@pytest.mark.parametrize("name", REGION_REFUSALS)
def test_regions_that_do_not_fit_are_refused(name, tmp_path):
    change, region, message = REGION_REFUSALS[name]
    target = tmp_path / "a.flac"
    write_template(cube(2), target, tile_size=TILE)
    before = target.read_bytes()
    with pytest.raises((UnsupportedDataError, ValueError), match=message):
        write(change(cube(2)), target, region=region)
    assert target.read_bytes() == before


def test_stores_and_rasters_have_no_regions(tmp_path):
    with pytest.raises(UnsupportedDataError, match="merge"):
        write(cube(1), "memory://a.flac", region="auto")
    write_array(tmp_path / "a.flac", np.zeros((1, 4, 4), "uint8"))
    with pytest.raises(UnsupportedDataError, match="merge"):
        write(cube(1), tmp_path / "a.flac", region="auto")


@pytest.mark.parametrize("size", [0, 3, 30, 500, None])
def test_what_is_no_whole_file_has_no_regions(size, tmp_path):
    target = tmp_path / "a.flac"
    write_template(cube(1), target, tile_size=TILE)
    data = b"II*\0" + bytes(500) if size is None else target.read_bytes()[:size]
    target.write_bytes(data)
    with pytest.raises(FormatError, match=r"ends in its header|not a FLAC raster"):
        write(cube(1), target, region="auto")
    assert target.read_bytes() == data
    with pytest.raises(SourceError, match="No such file"):
        write(cube(1), tmp_path / "b.flac", region="auto")


# Appending


@pytest.mark.parametrize("chunked", [False, True])
def test_time_is_appended(chunked, tmp_path):
    target = tmp_path / "a.flac"
    days = [cube(2), cube(1, "2026-02-01", 1), cube(3, "2026-03-01T06", 2)]
    for ds in days:
        write(
            ds.chunk({"y": 70}) if chunked else ds,
            target,
            append_dim="time",
            tile_size=TILE,
        )
    got = reopen(target)
    assert_same(got, xr.concat(days, "time", data_vars="minimal"))
    assert_valid(target)
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_pixels_as_they_are_stored_are_appended(tmp_path):
    target, other = tmp_path / "a.flac", tmp_path / "b.flac"
    write(cube(1), target, tile_size=TILE)
    write(cube(1, "2026-02-01", 1), other, tile_size=TILE)
    stored = xr.open_dataset(other, engine="flacraster", mask_and_scale=False)
    assert {"_FillValue", "scale_factor"} <= set(stored.t2m.attrs)
    write(stored, target, append_dim="time")
    both = [cube(1), cube(1, "2026-02-01", 1)]
    assert_same(reopen(target), xr.concat(both, "time", data_vars="minimal"))
    for wrong in ({"_FillValue": -1}, {"scale_factor": 0.1}):
        ds = stored.copy()
        ds.t2m.attrs |= wrong
        with pytest.raises(UnsupportedDataError):
            write(ds, target, append_dim="time")


def test_tiles_are_copied_as_they_are(tmp_path, monkeypatch):
    target = tmp_path / "a.flac"
    write(cube(2), target, tile_size=TILE)
    with FlacRaster.open(target) as raster:
        before = [raster.read_tile_bytes((t, 1, 2), position=0) for t in (0, 1)]

    def never(*_, **__):
        raise AssertionError

    encoded = []
    real = TileEncoder.encode

    def count(self, position, index, tile):
        encoded.append((position, tuple(index)))
        return real(self, position, index, tile)

    monkeypatch.setattr(FlacRaster, "_place", never)
    monkeypatch.setattr("flac_xarray.tile_encoder.TileEncoder.encode", count)
    write(cube(1, "2026-02-01", 4), target, append_dim="time")
    monkeypatch.undo()
    with FlacRaster.open(target) as raster:
        after = [raster.read_tile_bytes((t, 1, 2), position=0) for t in (0, 1)]
        assert raster.array("t2m").shape == (3, NY, NX)
    assert before == after
    assert {index[0] for _, index in encoded} == {2}
    assert len(encoded) == 2 * 9


def test_a_damaged_tile_is_never_copied(tmp_path):
    target = tmp_path / "a.flac"
    write(cube(2), target, tile_size=TILE)
    data = bytearray(target.read_bytes())
    data[-1000] ^= 1
    target.write_bytes(data)
    for copying in (
        lambda: write(cube(1, "2027-01-01"), target, append_dim="time"),
        lambda: merge([target], tmp_path / "b.flac", dim="time"),
    ):
        with pytest.raises(CorruptTileError, match="damaged"):
            copying()
        assert target.read_bytes() == data
        assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_an_append_does_not_lose_what_another_appended(tmp_path):
    target = tmp_path / "a.flac"
    write(cube(1), target, tile_size=TILE)
    late = write(cube(1, "2026-01-03"), target, append_dim="time", compute=False)
    write(cube(1, "2026-01-02"), target, append_dim="time")
    kept = target.read_bytes()
    with pytest.raises(SourceChangedError, match="replaced"):
        pickle.loads(pickle.dumps(late)).compute(scheduler="threads")
    assert target.read_bytes() == kept


APPEND_REFUSALS = {
    "no dim": (
        lambda ds: ds.assign(height=ds.t2m[0].drop_vars("time")),
        "'height'.*drop_vars",
    ),
    "another size": (lambda ds: ds.isel(x=slice(0, 50)), "size of 'x'"),
    "another place": (
        lambda ds: ds.assign_coords(x=ds.x + 10).drop_vars("spatial_ref"),
        "place|'x'",
    ),
    "missing": (lambda ds: ds[["t2m"]], "count"),
    "CRS": (lambda ds: ds.rio.write_crs("EPSG:32619"), "CRS"),
}


@pytest.mark.parametrize("name", APPEND_REFUSALS)
def test_what_does_not_fit_behind_is_refused(name, tmp_path):
    change, message = APPEND_REFUSALS[name]
    target = tmp_path / "a.flac"
    write(cube(2), target, tile_size=TILE)
    before = target.read_bytes()
    with pytest.raises(UnsupportedDataError, match=message):
        write(change(cube(1, "2026-02-01")), target, append_dim="time")
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_overviews_are_appended_too(tmp_path):
    target = tmp_path / "a.flac"
    options = {"tile_size": TILE, "overviews": (2,), "resampling": "average"}
    write(cube(1), target, **options)
    with pytest.raises(UnsupportedDataError, match="arrays"):
        write(cube(1, "2026-01-02", 1), target, append_dim="time")
    write(cube(1, "2026-01-02", 1), target, append_dim="time", **options)
    whole = xr.concat([cube(1), cube(1, "2026-01-02", 1)], "time", data_vars="minimal")
    write(whole, tmp_path / "b.flac", **options)
    got, expected = (
        reopen(tmp_path / name, overview_level=0) for name in ("a.flac", "b.flac")
    )
    np.testing.assert_array_equal(got.t2m, expected.t2m)
    assert_valid(target)


# Joining


def test_joined_along_time_is_as_written_at_once(tmp_path):
    days = [cube(1, f"2026-01-{k + 1:02}", k) for k in range(4)]
    for k, ds in enumerate(days):
        write(ds, tmp_path / f"{k}.flac", tile_size=TILE)
    files = [tmp_path / f"{k}.flac" for k in range(4)]
    merge(files, tmp_path / "all.flac", dim="time")
    assert_same(
        reopen(tmp_path / "all.flac"), xr.concat(days, "time", data_vars="minimal")
    )
    assert_valid(tmp_path / "all.flac")
    with pytest.raises(FileExistsError):
        merge(files, tmp_path / "all.flac", dim="time")
    merge([tmp_path / "all.flac", *files[:0]], tmp_path / "all.flac", dim="time",
          overwrite=True)  # fmt: skip
    assert_valid(tmp_path / "all.flac")


@pytest.mark.parametrize("dim", ["lat", "lon"])
def test_joined_neighbours_are_one_place(dim, tmp_path):
    whole = cube(1).rename(y="lat", x="lon")[["count"]]
    cuts = [slice(0, 100), slice(100, None)]
    for k, cut in enumerate(cuts):
        part = whole.isel({dim: cut})
        write(part, tmp_path / f"{k}.flac", tile_size={"lat": TILE, "lon": TILE})
    files = [tmp_path / "0.flac", tmp_path / "1.flac"]
    merge(files, tmp_path / "a.flac", dim=dim)
    write(whole, tmp_path / "b.flac", tile_size={"lat": TILE, "lon": TILE})
    got, expected = (reopen(tmp_path / name) for name in ("a.flac", "b.flac"))
    xr.testing.assert_equal(got, expected)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        assert raster.bounds() == FlacRaster.open(tmp_path / "b.flac").bounds()
    assert_valid(tmp_path / "a.flac")
    with pytest.raises(UnsupportedDataError, match=r"place|whole tiles"):
        merge(files[::-1], tmp_path / "c.flac", dim=dim)


def test_joined_variables(tmp_path):
    ds = cube(2)
    write(ds[["t2m"]], tmp_path / "a.flac", tile_size=TILE)
    write(ds[["count"]].chunk(), tmp_path / "b.flac", tile_size=65)
    files = [tmp_path / "a.flac", tmp_path / "b.flac"]
    merge(files, tmp_path / "c.flac")
    assert_same(reopen(tmp_path / "c.flac"), ds)
    assert_valid(tmp_path / "c.flac")
    with pytest.raises(UnsupportedDataError, match="dim="):
        merge([files[0]] * 2, tmp_path / "d.flac")
    write(ds[["count"]].isel(time=[0]), tmp_path / "e.flac")
    with pytest.raises(UnsupportedDataError, match="time"):
        merge([files[0], tmp_path / "e.flac"], tmp_path / "d.flac")


def test_bands_of_geotiffs_are_joined(tmp_path):
    import rasterio

    pixels = RNG.integers(0, 4000, (3, 90, 70)).astype("uint16")
    pixels[0, :64, :64] = 7  # an empty tile where nodata is 7
    profile = {
        "driver": "GTiff", "height": 90, "width": 70, "count": 1, "dtype": "uint16",
        "crs": "EPSG:32618", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
    }  # fmt: skip
    for k, nodata in enumerate((7, 7, 0)):
        with rasterio.open(tmp_path / "b.tif", "w", nodata=nodata, **profile) as out:
            out.write(pixels[k], 1)
            out.set_band_description(1, f"B{k}")
        convert_to_flac(tmp_path / "b.tif", tmp_path / f"{k}.flac", tile_size=64)
    files = [tmp_path / f"{k}.flac" for k in range(3)]
    merge(files, tmp_path / "all.flac", dim="band")
    assert_valid(tmp_path / "all.flac")
    with FlacRaster.open(tmp_path / "all.flac") as raster:
        np.testing.assert_array_equal(raster.read(), pixels)
        assert raster.array().nodata == (7, 7, 0)
    ds = reopen(tmp_path / "all.flac", mask_and_scale=False)
    assert ds.band_data.attrs["long_name"] == ("B0", "B1", "B2")
    assert ds.band.to_numpy().tolist() == [1, 2, 3]
    assert ds.rio.crs == "EPSG:32618"


def test_planes_without_the_dim_must_be_the_same(tmp_path):
    for k in range(3):
        ds = cube(1, f"2026-01-0{k + 1}", k)
        ds["height"] = ds.t2m[0].drop_vars("time") if k == 2 else ds.t2m[0] * 0 + 3.5
        ds["height"] = (("y", "x"), ds.height.to_numpy())
        write(ds, tmp_path / f"{k}.flac", tile_size=TILE)
    files = [tmp_path / f"{k}.flac" for k in range(3)]
    merge(files[:2], tmp_path / "a.flac", dim="time")
    assert reopen(tmp_path / "a.flac").height.dims == ("y", "x")
    assert_valid(tmp_path / "a.flac")
    with pytest.raises(UnsupportedDataError, match="'height'"):
        merge(files, tmp_path / "b.flac", dim="time")
    with pytest.raises(UnsupportedDataError, match="expand_dims"):
        merge(files, tmp_path / "b.flac", dim="run")


def test_parts_of_tiles_are_not_joined(tmp_path):
    for k in range(2):
        part = xr.DataArray(np.ones((3, 8, 8), "u1"), dims=("time", "y", "x"), name="a")
        write(part, tmp_path / f"{k}.flac", tile_size={"time": 2})
    with pytest.raises(UnsupportedDataError, match="whole tiles of 2"):
        merge([tmp_path / "0.flac", tmp_path / "1.flac"], tmp_path / "c", dim="time")


def test_objects_are_joined_and_appended_to(bucket):  # noqa: F811
    storage = {"storage_options": bucket}
    days = [cube(1, f"2026-01-0{k + 1}", k) for k in range(3)]
    for k in range(2):
        write(days[k], f"s3://tiles/day{k}.flac", tile_size=TILE, **storage)
    files = [f"s3://tiles/day{k}.flac" for k in range(2)]
    merge(files, "s3://tiles/days.flac", dim="time", **storage)
    write(days[2], "s3://tiles/days.flac", append_dim="time", **storage)
    assert_valid("s3://tiles/days.flac", **storage)
    got = reopen("s3://tiles/days.flac", **storage)
    assert_same(got, xr.concat(days, "time", data_vars="minimal"))


def test_old_files_are_not_copied(tmp_path):
    with FlacRaster.open(bare_tile(tmp_path)) as raster:
        assert raster.header.arrays
    with pytest.raises(UnsupportedDataError, match="anew"):
        merge([tmp_path / "tile.flac"], tmp_path / "b.flac", dim="band")


def bare_tile(folder: Path) -> Path:
    write_array(folder / "whole.flac", np.arange(64, dtype="u1").reshape(1, 8, 8))
    with FlacRaster.open(folder / "whole.flac") as raster:
        (folder / "tile.flac").write_bytes(raster.read_tile_bytes((0, 0, 0)))
    return folder / "tile.flac"
