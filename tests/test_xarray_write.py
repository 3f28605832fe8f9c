"""Writing Datasets: identical after the file wherever they are after Zarr."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401  (registers `.rio`)
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.dataset_plan import plan_dataset
from flac_xarray.dataset_writer import write
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.reader import FlacRaster
from flac_xarray.xarray_backend import FlacRasterBackend

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Zarr (V3|format 3) specification"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
]

RNG = np.random.default_rng(11)


def reopen(target: Path, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine=FlacRasterBackend, **options)


def plane(**variables) -> xr.Dataset:
    """A small dataset with even x and y, and variables over them."""
    ny, nx = 20, 30
    return xr.Dataset(
        variables,
        coords={"x": np.arange(nx) * 10.0 + 5, "y": 1000 - np.arange(ny) * 10.0 - 5},
    )


def pixels(*leading: int, dtype: str = "float32") -> np.ndarray:
    shape = (*leading, 20, 30)
    if np.dtype(dtype).kind in "iu":
        return RNG.integers(0, 100, shape).astype(dtype)
    return RNG.normal(size=shape).astype(dtype)


def cube() -> xr.Dataset:
    ds = plane(
        t2m=(("time", "y", "x"), pixels(4), {"units": "K", "valid": [200.0, 330.0]}),
        count=(("time", "y", "x"), pixels(4, dtype="uint16")),
        height=(("y", "x"), pixels(dtype="float64"), {"long_name": "height"}),
    )
    ds["time"] = pd.date_range("2026-01-01", periods=4, freq="D")
    ds.attrs = {"title": "x", "n": 3, "nothing": None, "nested": {"a": [1, 2]}}
    return ds


def with_crs() -> xr.Dataset:
    return cube().rio.write_crs("EPSG:32618").rio.write_transform()


def voids() -> xr.Dataset:
    values = pixels()
    values[:, ::3] = np.nan
    return plane(t=(("y", "x"), values))


def scaled() -> xr.Dataset:
    ds = plane(t=(("y", "x"), np.round(pixels(dtype="float64"), 2)))
    ds.t[0, 0] = np.nan
    ds.t.encoding = {
        "dtype": "int16",
        "scale_factor": 0.01,
        "add_offset": 5.0,
        "_FillValue": -32768,
    }
    return ds


def packed_times() -> xr.Dataset:
    ds = plane(
        seen=(
            ("y", "x"),
            pd.date_range("2026", periods=600, freq="h").to_numpy().reshape(20, 30),
        ),
        age=(("y", "x"), (np.arange(600) * np.timedelta64(1, "h")).reshape(20, 30)),
    ).astype({"seen": "M8[ns]", "age": "m8[ns]"})
    ds.seen.encoding = {"units": "hours since 2000-01-01", "dtype": "int32"}
    return ds


def text_coords() -> xr.Dataset:
    ds = plane(r=(("band", "y", "x"), pixels(2, dtype="uint8")))
    return ds.assign_coords(
        band=["red", "nïr"],
        satellite="S2A",
        quality=("band", np.array(["good", "bad"], object)),
        wavelength=("band", [665.0, 842.0], {"units": "nm"}),
        flag=("band", [True, False]),
    )


def swath() -> xr.Dataset:
    ds = xr.Dataset({"bt": (("j", "i"), pixels())})
    return ds.assign_coords(
        lat=(("j", "i"), pixels(dtype="float64")), lon=(("j", "i"), pixels())
    )


def globe() -> xr.Dataset:
    ds = xr.Dataset(
        {"t": (("time", "level", "lat", "lon"), pixels(2, 3))},
        coords={
            "lat": np.linspace(90, -90, 20),
            "lon": np.linspace(0, 348, 30),
            "level": ("level", [1000, 500, 200], {"units": "hPa"}),
            "time": pd.date_range("2026", periods=2),
        },
    )
    ds["time_bnds"] = (("time", "bnds"), np.arange(4.0).reshape(2, 2))
    ds["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    return ds


def of_dtype(dtype: str) -> xr.Dataset:
    return plane(a=(("y", "x"), pixels(dtype=dtype)))


DATASETS = {
    "cube": cube,
    "crs": with_crs,
    "voids": voids,
    "scaled": scaled,
    "times": packed_times,
    "text": text_coords,
    "swath": swath,
    "globe": globe,
    "bool": lambda: plane(a=(("y", "x"), pixels() > 0)),
    "no-coords": lambda: cube().drop_vars(["x", "y", "time"]),
    "empty-dim": lambda: cube().isel(time=slice(0, 0)),
    "one-pixel": lambda: cube().isel(x=[3], y=[4]),
    "uneven": lambda: cube().assign_coords(x=np.arange(30.0) ** 2),
    "attrs": lambda: cube().assign_attrs(
        a=np.float32(1.5), b=np.arange(3), c=np.nan, d=[1.0, np.inf], e=True, f="ü"
    ),
    "cftime": lambda: cube().assign_coords(
        time=xr.date_range("2000-02-28", periods=4, calendar="360_day", use_cftime=True)
    ),
    **{
        d: (lambda d=d: of_dtype(d))
        for d in (
            "int8",
            "uint8",
            "int16",
            "int32",
            "uint32",
            "int64",
            "uint64",
            "float16",
            "float64",
            "complex64",
            "complex128",
            ">i2",
            ">f4",
        )
    },
}


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 11}], ids=["numpy", "dask"])
@pytest.mark.parametrize("name", DATASETS)
def test_identical_where_zarr_is(name, chunks, tmp_path):
    if name == "cftime":
        pytest.importorskip("cftime")
    ds = DATASETS[name]()
    if chunks:
        dims = {"j": "y", "i": "x"} if "j" in ds.dims else {"lat": "y", "lon": "x"}
        spatial = {
            d: chunks[dims.get(d, d)] for d in ds.dims if dims.get(d, d) in chunks
        }
        ds = ds.chunk(spatial)
    write(ds, tmp_path / "a.flac", tile_size=8)
    with reopen(tmp_path / "a.flac") as got:
        assert_as_good_as_zarr(got, ds, tmp_path)


def assert_as_good_as_zarr(got: xr.Dataset, ds: xr.Dataset, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.chunk().to_zarr(tmp_path / "a.zarr")
        zarr = xr.open_zarr(tmp_path / "a.zarr")
    # Where Zarr changes a dataset, we may change it alike, or keep it as it was.
    unchanged = zarr.identical(ds) or got.identical(ds)
    xr.testing.assert_identical(got, ds if unchanged else zarr)
    for name, variable in got.variables.items():
        assert variable.dtype in (ds[name].dtype, zarr[name].dtype)


def test_data_arrays(tmp_path):
    array = with_crs().t2m
    write(array, tmp_path / "a.flac")
    got = xr.open_dataarray(tmp_path / "a.flac", engine=FlacRasterBackend)
    xr.testing.assert_identical(got, array)
    assert got.rio.crs == array.rio.crs
    write(array.rename(None), tmp_path / "b.flac")
    assert list(reopen(tmp_path / "b.flac").data_vars) == ["band_data"]


def test_accessors(tmp_path):
    ds = cube()
    ds.flacraster.to_file(tmp_path / "a.flac", tile_size=16)
    xr.testing.assert_identical(reopen(tmp_path / "a.flac"), ds)
    ds.t2m.flacraster.to_file(tmp_path / "b.flac")
    xr.testing.assert_identical(reopen(tmp_path / "b.flac").t2m, ds.t2m)


def test_encoding_of_the_call_replaces_that_of_the_variable(tmp_path):
    ds = scaled()
    write(ds, tmp_path / "a.flac", encoding={"t": {"dtype": "int32", "_FillValue": -1}})
    assert reopen(tmp_path / "a.flac", mask_and_scale=False).t.dtype == "int32"
    write(ds, tmp_path / "b.flac")
    stored = reopen(tmp_path / "b.flac", mask_and_scale=False).t
    assert stored.dtype == "int16"
    assert stored.attrs["_FillValue"] == -32768
    assert stored[0, 0] == -32768
    with FlacRaster.open(tmp_path / "b.flac") as raster:
        assert raster.array("t").nodata == (-32768,)
    for wrong in ({"t": {"compressor": None}}, {"nope": {}}):
        with pytest.raises(ValueError, match=r"compressor|nope"):
            write(ds, tmp_path / "c.flac", encoding=wrong)
    assert not (tmp_path / "c.flac").exists()


def test_encoding_comes_back(tmp_path):
    ds = with_crs()
    ds.time.encoding = {"units": "days since 1970-01-01", "calendar": "standard"}
    write(ds, tmp_path / "a.flac", tile_size=8)
    got = reopen(tmp_path / "a.flac")
    assert got.t2m.encoding["grid_mapping"] == "spatial_ref"
    assert "grid_mapping" not in got.t2m.attrs
    assert got.t2m.encoding["preferred_chunks"] == {"time": 1, "y": 8, "x": 8}
    assert got.t2m.chunksizes["y"] == (8, 8, 4)
    assert got.time.encoding["units"] == "days since 1970-01-01"
    again = tmp_path / "b.flac"
    write(got, again)
    xr.testing.assert_identical(reopen(again), ds)


def test_the_file_knows_where_it_lies(tmp_path):
    write(with_crs(), tmp_path / "a.flac", tile_size={"time": 2, "y": 8, "x": 16})
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        assert raster.georef.crs == "EPSG:32618"
        assert raster.georef.transform == (10.0, 0.0, 0.0, 0.0, -10.0, 1000.0)
        assert raster.array("t2m").tile == (2, 8, 16)
        assert raster.array("height").tile == (8, 16)
    uneven = cube().assign_coords(x=np.arange(30.0) ** 2)
    assert plan_dataset(uneven).header.georef.transform is None
    globe_at = plan_dataset(globe()).header.georef.transform
    np.testing.assert_allclose(globe_at, (12, 0, -6, 0, -180 / 19, 90 + 90 / 19))


def test_a_window_of_a_raster_keeps_its_place(tmp_path):
    ds = with_crs()
    part = ds.isel(x=slice(5, 9), y=slice(2, 3))
    write(part, tmp_path / "a.flac")
    got = reopen(tmp_path / "a.flac")
    xr.testing.assert_identical(got, part)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        assert raster.bounds() == (50.0, 970.0, 90.0, 980.0)


def test_lazy_files_are_written_on(tmp_path):
    ds = with_crs()
    write(ds, tmp_path / "a.flac", tile_size=8)
    lazy = reopen(tmp_path / "a.flac", chunks=None, cache=False)
    write(lazy, tmp_path / "b.flac", tile_size=16)
    xr.testing.assert_identical(reopen(tmp_path / "b.flac"), ds)


def test_every_dask_block_is_computed_once(tmp_path):
    blocks = []

    def block(block_info=None):
        where = block_info[None]["array-location"]
        blocks.append(tuple(where))
        shape = [stop - start for start, stop in where]
        return np.full(shape, len(blocks), "int16")

    array = da.map_blocks(block, chunks=((50, 50, 28), (33, 95)), dtype="int16")
    blocks.clear()
    ds = xr.Dataset({"a": (("y", "x"), array), "b": (("y", "x"), array + 1)})
    write(ds, tmp_path / "a.flac", tile_size=32)
    assert len(blocks) == len(set(blocks)) == 6
    got = reopen(tmp_path / "a.flac").compute()
    np.testing.assert_array_equal(got.a + 1, got.b)


def refused() -> dict[str, tuple[object, str]]:
    ds = cube()
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["u", "v"])
    return {
        "text pixels": (plane(t=(("y", "x"), np.full((20, 30), "a"))), "'t'.*<U1"),
        "objects": (plane(o=(("y", "x"), np.full((20, 30), {}, object))), "'o'"),
        "dims order": (ds.transpose("y", "x", "time"), r"'t2m'.*transpose"),
        "no plane": (xr.Dataset({"a": ("time", [1, 2])}), "rows and columns"),
        "nothing over the plane": (
            xr.Dataset(coords={"x": [1.0, 2.0], "y": [1.0]}),
            "nothing to store",
        ),
        "not an xarray object": (np.zeros((2, 2)), "ndarray"),
        "attribute": (ds.assign_attrs(bad=object()), "'bad'"),
        "variable attribute": (
            ds.assign(height=ds.height.assign_attrs(bad={1, 2})),
            "'bad'.*'height'",
        ),
        "name": (ds.rename(height=5), "5"),
        "multi-index": (
            xr.Dataset(
                {"a": (("m", "y", "x"), np.zeros((4, 2, 2)))},
                coords=xr.Coordinates.from_pandas_multiindex(index, "m"),
            ),
            "(?i)multi-?index",
        ),
        "categories": (
            ds.assign_coords(c=("time", pd.Categorical(list("abab")))),
            "'c'.*categor",
        ),
        "bytes": (ds.assign_coords(c=("time", np.array([b"a"] * 4))), "'c'"),
        "crs": (
            ds.assign_coords(spatial_ref=((), 0, {"crs_wkt": "nonsense"})),
            "CRS",
        ),
        "large table": (
            ds.assign(table=("row", np.zeros(2_000_000))),
            "'table'.*header",
        ),
        "scales by band": (
            ds.assign(t2m=_with_encoding(ds.t2m, dtype="int16", scales=(1.0, 2.0))),
            "'t2m'.*scales",
        ),
        "text as _FillValue": (
            plane(a=(("y", "x"), pixels(), {"_FillValue": "none"})),
            "'none' of 'a'",
        ),
        "scaled complex": (
            plane(
                z=_with_encoding(
                    xr.DataArray(pixels(dtype="complex64"), dims=("y", "x")),
                    scale_factor=0.5,
                )
            ),
            "'z'.*scale_factor.*complex",
        ),
        "half a plane": (
            xr.Dataset({"t": (("y", "lat", "lon"), np.zeros((1, 2, 3)))}),
            "'?y'?",
        ),
    }


def _with_encoding(array: xr.DataArray, **encoding) -> xr.DataArray:
    array = array.copy()
    array.encoding = encoding
    return array


@pytest.mark.parametrize("name", refused())
def test_what_cannot_be_stored_is_refused_by_name(name, tmp_path):
    data, message = refused()[name]
    with pytest.raises(UnsupportedDataError, match=message):
        write(data, tmp_path / "a.flac")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_task_leaves_nothing(tmp_path):
    def fail(block):
        del block
        msg = "no luck"
        raise RuntimeError(msg)

    array = da.zeros((64, 64), chunks=32).map_blocks(
        fail, dtype="float64", meta=np.empty((0, 0))
    )
    with pytest.raises(RuntimeError, match="no luck"):
        write(xr.Dataset({"a": (("y", "x"), array)}), tmp_path / "a.flac", tile_size=32)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_stay(tmp_path):
    write(cube(), tmp_path / "a.flac")
    with pytest.raises(FileExistsError):
        write(cube(), tmp_path / "a.flac")
    write(cube().isel(time=[0]), tmp_path / "a.flac", overwrite=True)
    assert reopen(tmp_path / "a.flac").sizes["time"] == 1


def test_the_header_is_plain_json(tmp_path):
    ds = cube().assign_attrs(c=np.nan)
    write(ds, tmp_path / "a.flac")
    data = (tmp_path / "a.flac").read_bytes()
    header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
    assert header["conventions"] == "CF"
    assert header["attrs"]["c"] == {"$float": "NaN"}
    assert header["coordinates"] == ["x", "y", "time"]


@given(
    shape=st.tuples(*[st.integers(0, 3), st.integers(1, 9), st.integers(1, 9)]),
    chunk=st.tuples(*[st.integers(1, 4)] * 3),
    tile=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_any_chunks_fit_any_tiles(shape, chunk, tile, tmp_path_factory):
    values = np.arange(np.prod(shape), dtype="int32").reshape(shape)
    array = xr.DataArray(da.from_array(values, chunk), dims=("t", "y", "x"), name="a")
    target = tmp_path_factory.mktemp("any") / "a.flac"
    write(array, target, tile_size=dict(zip(array.dims, tile, strict=True)))
    got = reopen(target)
    np.testing.assert_array_equal(got.a, values)


REAL = (
    "clim-A1B-airtemp-240x37x49-f32",
    "clim-gridmet-tmmx-u16",
    "lc-basin-33x180x360-int8",
    "modis-mcd43a4-B01-2400-i16",
    "s2-l1c-18N-4band-10m",
    "sar-s1-slc-complex64-gcps",
    "pop-gpw-15min-f32",
    "meta-rotated-2d-f64",
)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_what_rioxarray_opens_is_written(name, real_data, tmp_path):
    with xr.open_dataset(real_data / f"{name}.tif", engine="rasterio") as ds:
        write(ds, tmp_path / "a.flac")
        with reopen(tmp_path / "a.flac") as got:
            assert got.rio.crs == ds.rio.crs
            assert got.rio.transform() == ds.rio.transform()
            assert got.band_data.encoding["dtype"] == ds.band_data.encoding["dtype"]
            assert_alike(got, ds)


def assert_alike(got: xr.Dataset, ds: xr.Dataset) -> None:
    """As identical as xarray's CF coders leave scaled integers: to float32's digits."""
    scaled = "scale_factor" in got.band_data.encoding
    (xr.testing.assert_allclose if scaled else xr.testing.assert_identical)(got, ds)


def test_identity_scales_change_nothing(tmp_path):
    ds = plane(z=(("y", "x"), pixels(dtype="complex64")), n=(("y", "x"), pixels()))
    for array in ds.data_vars.values():
        array.encoding = {"scale_factor": 1.0, "add_offset": 0.0}
    write(ds, tmp_path / "a.flac")
    got = reopen(tmp_path / "a.flac")
    xr.testing.assert_identical(got, ds)
    assert (got.z.dtype, got.n.dtype) == ("complex64", "float32")


def test_nan_that_the_encoding_cannot_hold_is_refused(tmp_path):
    ds = voids()
    ds.t.encoding = {"dtype": "uint8"}
    for data in (ds, ds.chunk({"y": 8})):
        with pytest.raises(UnsupportedDataError, match=r"uint8.*NaN"):
            write(data, tmp_path / "a.flac")
        assert list(tmp_path.iterdir()) == []
    ds = plane(t=(("y", "x"), np.arange(600.0, dtype="float32").reshape(20, 30)))
    ds.t.encoding = {"dtype": "uint16"}
    write(ds.chunk({"y": 8}), tmp_path / "a.flac")
    assert reopen(tmp_path / "a.flac").t.dtype == "uint16"
    np.testing.assert_array_equal(reopen(tmp_path / "a.flac").t, ds.t)
