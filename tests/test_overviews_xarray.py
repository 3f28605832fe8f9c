"""Overviews of Datasets: written with them, opened one by one and as a tree."""

from __future__ import annotations

import pickle

import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

import flac_xarray
from flac_xarray import FlacRaster, encode_array
from flac_xarray.dataset_overviews import with_overviews
from flac_xarray.dataset_plan import plan_dataset

# rioxarray's own use of affine.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning"
)

OPTIONS = {"tile_size": 32, "effort": 0, "overwrite": True}


def dataset(shape=(2, 133, 201)):
    rng = np.random.default_rng(0)
    _, height, width = shape
    return xr.Dataset(
        {
            "t": (("time", "y", "x"), rng.normal(size=shape).astype("float32")),
            "kind": (("y", "x"), rng.integers(0, 4, shape[1:]).astype("uint8")),
        },
        coords={
            "time": np.array(["2026-01-01", "2026-01-11"], "M8[ns]"),
            "y": 4e6 - 10 * np.arange(height) - 5.0,
            "x": 5e5 + 10 * np.arange(width) + 5.0,
        },
    ).rio.write_crs(32631)


def opened(path, level=None, **options):
    return xr.open_dataset(path, engine="flacraster", overview_level=level, **options)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.flac"


CHUNKS = [{}, {"y": 50, "x": 77, "time": 1}, {"y": 32, "x": 64}, {"y": 7, "x": -1}]


@pytest.mark.parametrize("method", ["average", "cubic", "nearest"])
def test_levels_do_not_depend_on_chunks(target, method):
    ds = dataset()
    options = {"overviews": "auto", "resampling": {"t": method, "kind": "mode"}}
    expected = encode_array(
        ds.t.values, tile_size=32, overviews="auto", resampling=method, effort=0
    )
    classes = encode_array(
        ds.kind.values, tile_size=32, overviews="auto", resampling="mode", effort=0
    )
    for chunks in (None, *CHUNKS):
        data = ds if chunks is None else ds.chunk(chunks)
        flac_xarray.write(data, target, **OPTIONS, **options)
        with (
            FlacRaster.open(target) as raster,
            FlacRaster.open(expected) as numbers,
            FlacRaster.open(classes) as kinds,
        ):
            assert raster.header.levels == (0, 1, 2, 3)
            for level in raster.header.levels:
                found = raster.read(name="t", level=level)
                np.testing.assert_array_equal(found, numbers.read(level=level))
                found = raster.read(name="kind", level=level)
                np.testing.assert_array_equal(found, kinds.read(level=level))


def test_full_resolution_is_what_it_is_without_overviews(target, tmp_path):
    ds = dataset()
    flac_xarray.write(ds, target, **OPTIONS, overviews="auto", resampling="average")
    plain = tmp_path / "plain.flac"
    flac_xarray.write(ds, plain, **OPTIONS)
    xr.testing.assert_identical(opened(target).load(), opened(plain).load())


def test_nodata_is_left_out_and_scales_are_applied(target):
    values = np.array([[1.0, 3.0, np.nan, np.nan], [5.0, np.nan, np.nan, np.nan]])
    encoding = {"v": {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -1}}
    ds = xr.Dataset({"v": (("y", "x"), values)})
    for data in (ds, ds.chunk({"x": 2})):
        flac_xarray.write(
            data,
            target,
            **OPTIONS,
            encoding=encoding,
            overviews=(2,),
            resampling="average",
        )
        found = opened(target, 0).v
        np.testing.assert_array_equal(found, [[3.0, np.nan]])
        assert found.encoding["_FillValue"] == -1
        with FlacRaster.open(target) as raster:
            assert raster.read(level=1).tolist() == [[6, -1]]


def test_missing_value_is_nodata_too(target):
    pixels = np.array([[4, -9], [8, -9]], "int16")
    ds = xr.Dataset({"v": (("y", "x"), pixels, {"missing_value": np.int16(-9)})})
    flac_xarray.write(ds, target, **OPTIONS, overviews=(2,), resampling="average")
    with FlacRaster.open(target) as raster:
        assert raster.read(level=1).tolist() == [[6]]


def test_evenly_spaced_coordinates_follow_the_transform(target):
    flac_xarray.write(dataset(), target, **OPTIONS, overviews=(2, 4))
    for level, (height, width) in enumerate([(67, 101), (34, 51)]):
        ds = opened(target, level)
        step_y, step_x = -10 * 133 / height, 10 * 201 / width
        np.testing.assert_allclose(ds.y, 4e6 + step_y * (np.arange(height) + 0.5))
        np.testing.assert_allclose(ds.x, 5e5 + step_x * (np.arange(width) + 0.5))
        assert ds.rio.crs.to_epsg() == 32631
        np.testing.assert_allclose(
            ds.rio.transform()[:6], (step_x, 0, 5e5, 0, step_y, 4e6)
        )
        np.testing.assert_array_equal(ds.time, dataset().time)


def test_uneven_coordinates_are_averaged(target):
    lat = np.array([80.0, 60.0, 30.0, 10.0])
    ds = xr.Dataset(
        {"v": (("lat", "lon"), np.zeros((4, 2), "float32"))},
        coords={"lat": ("lat", lat, {"units": "degrees_north"}), "lon": [0.0, 1.0]},
    )
    ds["name"] = ("lat", list("abcd"))
    flac_xarray.write(ds, target, **OPTIONS, overviews=(2,))
    found = opened(target, 0)
    assert found.lat.values.tolist() == [70.0, 20.0]
    assert found.lat.attrs == {"units": "degrees_north"}
    assert "name" not in found
    assert set(found.coords) == {"lat", "lon"}


def test_coordinates_over_the_plane_are_averaged(target):
    xc = np.add.outer(np.arange(4.0), np.arange(6.0))
    ds = xr.Dataset(
        {"v": (("y", "x"), np.zeros((4, 6), "int16"))}, coords={"xc": (("y", "x"), xc)}
    )
    for data in (ds, ds.chunk()):
        flac_xarray.write(data, target, **OPTIONS, overviews=(2,))
        found = opened(target, 0)
        assert set(found.coords) == {"xc"}
        np.testing.assert_array_equal(found.xc, xc.reshape(2, 2, 3, 2).mean((1, 3)))


def test_a_tree_has_all_levels(target):
    flac_xarray.write(
        dataset(), target, **OPTIONS, overviews="auto", resampling="average"
    )
    with xr.open_datatree(target, engine="flacraster") as tree:
        assert list(tree.children) == ["full", "overview_0", "overview_1", "overview_2"]
        assert tree["overview_0"].t.chunks == ((1, 1), (32, 32, 3), (32, 32, 32, 5))
        for name, level in (("full", None), ("overview_0", 0), ("overview_2", 2)):
            xr.testing.assert_identical(
                tree[name].to_dataset().load(), opened(target, level).load()
            )
    chunked = xr.open_datatree(target, engine="flacraster", chunks={"x": 64})
    assert chunked["full"].t.chunks[2] == (64, 64, 64, 9)
    groups = xr.open_groups(
        target, engine="flacraster", mask_and_scale=False, drop_variables="t"
    )
    assert list(groups["/overview_1"].data_vars) == ["kind"]
    with pytest.raises(TypeError, match="unknown options"):
        xr.open_datatree(target, engine="flacraster", overview_level=1)


def test_a_tree_of_a_raster():
    data = encode_array(np.ones((1, 9, 9), "uint8"), overviews=(2,), crs="EPSG:4326")
    tree = xr.open_datatree(data, engine="flacraster", band_as_variable=True)
    assert tree["overview_0"].band_1.shape == (5, 5)
    assert tree["full"].band_1.shape == (9, 9)


def test_full_resolution_is_computed_once(target):
    calls = []

    def count(block):
        calls.append(block.shape)
        return block

    pixels = da.zeros((128, 128), chunks=32, dtype="float32").map_blocks(
        count, dtype="float32", meta=np.empty((0, 0), "float32")
    )
    da_ = xr.DataArray(pixels, dims=("y", "x"), name="v")
    da_.flacraster.to_file(target, **OPTIONS, overviews="auto", resampling="bilinear")
    assert len(calls) == 16


def test_levels_pickle_and_are_small():
    plan = plan_dataset(dataset().chunk(64), tile_size=32)
    levels = with_overviews(plan, "auto", "average")
    graph = dict(levels.arrays[-1].data.__dask_graph__())
    mine = {k: v for k, v in graph.items() if str(k[0]).startswith("overview-")}
    per_task = len(pickle.dumps(mine)) / len(mine)
    assert per_task < 2000


def test_what_is_refused(target):
    for options, match in (
        ({"overviews": (4, 2)}, "factors that ascend"),
        ({"overviews": "auto", "resampling": {"u": "mode"}}, r"resampling for \['u'\]"),
        ({"overviews": "auto", "resampling": "median"}, "expected one of nearest"),
    ):
        with pytest.raises(ValueError, match=match):
            flac_xarray.write(dataset(), target, **OPTIONS, **options)
    assert not target.exists()
