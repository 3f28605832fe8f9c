"""Computations under dask over a slow link: requests, bytes, and what a retry sees."""

from __future__ import annotations

import asyncio
import pickle
import time

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr

from flac_xarray import (
    FlacRaster,
    SourceError,
    convert_to_flac,
    fetch_ahead,
    write,
    write_array,
)
from flac_xarray.errors import ManyTilesWarning
from flac_xarray.tile_plan import TilePlan
from tests.servers import FaultServer, Status

RNG = np.random.default_rng(11)
PIXELS = np.cumsum(RNG.integers(-9, 10, (2, 300, 330)), -1).astype("int16")
TILE = 30
N_TILES = 2 * 10 * 11


@pytest.fixture
def server(tmp_path):
    write_array(tmp_path / "a.flac", PIXELS, tile_size=TILE)
    with FaultServer(tmp_path) as running:
        yield running


@pytest.fixture
def band_data(server):
    ds = xr.open_dataset(
        f"{server.url}/a.flac", engine="flacraster", mask_and_scale=False
    )
    server.reset_counts()
    return ds.band_data


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_a_computation_over_all_tiles_takes_few_requests(server, band_data, scheduler):
    with dask.config.set(scheduler=scheduler, num_workers=2):
        np.testing.assert_array_equal(band_data.compute(), PIXELS)
    assert server.requests["/a.flac"] <= 4


def test_only_the_tiles_that_are_wanted_are_fetched(server, band_data):
    window = (1, slice(35, 115), slice(65, 145))  # 3 x 3 tiles
    with dask.config.set(scheduler="threads", num_workers=2):
        found = band_data[window].compute()
    np.testing.assert_array_equal(found, PIXELS[window])
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        plan = raster.plan((slice(1, 2), *window[1:]))
    assert len(plan.cuts) == 9
    assert server.bytes["/a.flac"] - plan.tile_nbytes < 70_000  # and the header again
    assert server.requests["/a.flac"] <= 3 + 1


def test_bytes_of_a_block_of_tiles_are_its_own(server, band_data):
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        plan = raster.plan((slice(0, 1), slice(0, 90), slice(0, 90)))
    server.reset_counts()
    band_data[0, :90, :90].compute()
    assert server.bytes["/a.flac"] == plan.tile_nbytes


def test_a_second_computation_fetches_again_and_is_right(server, band_data):
    total = band_data.astype("int64").sum()
    assert (
        int(total.compute()) == int(total.compute()) == int(PIXELS.sum(dtype="int64"))
    )
    assert server.requests["/a.flac"] <= 8


def test_batches_are_fetched_ahead_and_bounded(server, band_data, monkeypatch):
    monkeypatch.setattr(fetch_ahead, "BATCH_NBYTES", 4096)
    with dask.config.set(scheduler="threads", num_workers=2):
        np.testing.assert_array_equal(band_data.compute(), PIXELS)
    assert 4 < server.requests["/a.flac"] < N_TILES / 2
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        plan = raster.plan(tuple(slice(0, n) for n in PIXELS.shape))
    # Twice as many bytes would be batches fetched twice; the header is read again.
    assert server.bytes["/a.flac"] <= plan.tile_nbytes + (64 << 10)


def test_tiles_in_any_order_are_fetched_once(server, band_data, monkeypatch):
    monkeypatch.setattr(fetch_ahead, "BATCH_NBYTES", 4096)
    layer = dict(next(iter(band_data.data.dask.layers.values())))
    (plan,) = [task() for key, task in layer.items() if not isinstance(key, tuple)]
    rows = [slice(r, min(r + TILE, 300)) for r in range(0, 300, TILE)]
    cols = [slice(c, min(c + TILE, 330)) for c in range(0, 330, TILE)]
    for _ in range(2):
        server.reset_counts()
        for col in reversed(cols):
            for row in rows:
                for band in (slice(0, 1), slice(1, 2)):
                    block = (band, row, col)
                    np.testing.assert_array_equal(plan.read(block), PIXELS[block])
        with FlacRaster.open(f"{server.url}/a.flac") as raster:
            whole = raster.plan(tuple(slice(0, n) for n in PIXELS.shape))
        assert server.bytes["/a.flac"] <= whole.tile_nbytes + (64 << 10)


@pytest.mark.parametrize("what", ["mask", "alpha"])
def test_tiles_that_mask_are_fetched_ahead_too(tmp_path, what):
    pixels = np.cumsum(RNG.integers(-9, 10, (4, 300, 330)), -1).astype("uint8")
    valid = RNG.random((300, 330)) > 0.3
    profile = {"driver": "GTiff", "width": 330, "height": 300, "dtype": "uint8"}
    to_world = rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)
    profile |= {"crs": "EPSG:32633", "transform": to_world}
    n_bands = 3 if what == "mask" else 4
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "a.tif", "w", count=n_bands, **profile) as out,
    ):
        out.write(pixels[:3], [1, 2, 3])
        if what == "mask":
            out.write_mask(valid)
        else:
            out.write(valid.astype("uint8") * 255, 4)
            names = ("red", "green", "blue", "alpha")
            out.colorinterp = [rasterio.enums.ColorInterp[name] for name in names]
    convert_to_flac(tmp_path / "a.tif", tmp_path / "a.flac", tile_size=TILE)
    with FaultServer(tmp_path) as server:
        ds = xr.open_dataset(f"{server.url}/a.flac", engine="flacraster")
        server.reset_counts()
        with dask.config.set(scheduler="threads", num_workers=2):
            found = ds.band_data[:3].compute()
        expected = np.where(valid, pixels[:3], np.float32(np.nan))
        np.testing.assert_array_equal(found, expected)
        assert server.requests["/a.flac"] <= 5
        with FlacRaster.open(f"{server.url}/a.flac") as raster:
            assert server.bytes["/a.flac"] <= raster.nbytes + (64 << 10)


@pytest.mark.parametrize("order", ["backwards", "by columns", "in blocks", "at random"])
def test_the_link_is_kept_busy_in_any_order(server, monkeypatch, order):
    """Whatever the order, a reader waits for few round trips and bytes come once."""
    monkeypatch.setattr(fetch_ahead, "BATCH_NBYTES", 2048)
    at = np.array([(r, c) for r in range(10) for c in range(11)])
    keys = {
        "backwards": -np.arange(110),
        "by columns": at[:, 1] * 100 + at[:, 0],
        "in blocks": at[:, 0] // 4 * 1000 + at[:, 1] // 4 * 100 - at[:, 0],
        "at random": np.random.default_rng(3).permutation(110),
    }
    numbers = np.argsort(keys[order], kind="stable").tolist()
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        tiles = dict(raster.fetch_tiles(0, range(110)))
        server.reset_counts()
        server.latency = 0.05
        queue = fetch_ahead.FetchAhead(0, dict.fromkeys(range(110), 1))
        start = time.perf_counter()
        for number in numbers:
            assert dict(queue.take(raster, [number])) == {0: tiles[number]}
        assert time.perf_counter() - start < 0.05 * 110 / 4
        assert server.bytes["/a.flac"] == sum(len(data) for data in tiles.values())


def test_tiles_of_one_read_are_fetched_together(server):
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        tiles = dict(raster.fetch_tiles(0, range(220)))
        numbers = [0, 1, 2, 11, 12, 13, 110]
        queue = fetch_ahead.FetchAhead(0, dict.fromkeys(range(220), 1))
        for _ in range(2):  # the second time they are not waiting any more
            server.reset_counts()
            found = dict(queue.take(raster, numbers))
            assert found == {k: tiles[n] for k, n in enumerate(numbers)}
            assert server.requests["/a.flac"] <= 3


def test_what_waits_is_bounded_however_it_is_read(server, monkeypatch):
    monkeypatch.setattr(fetch_ahead, "BATCH_NBYTES", 2048)
    monkeypatch.setattr(fetch_ahead, "FLYING_NBYTES", 4096)
    monkeypatch.setattr(fetch_ahead, "WINDOW_NBYTES", 8192)
    monkeypatch.setattr(fetch_ahead, "MAX_WAITING_NBYTES", 16384)
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        tiles = dict(raster.fetch_tiles(0, range(220)))
        batch = 2048 + max(len(data) for data in tiles.values())
        queue = fetch_ahead.FetchAhead(0, dict.fromkeys(range(220), 1))
        for _ in range(2):
            server.reset_counts()
            for number in np.arange(220).reshape(-1, 11).T.ravel().tolist():
                assert dict(queue.take(raster, [number])) == {0: tiles[number]}
                assert queue.waiting_nbytes < 16384 + batch
            assert queue.waiting_nbytes == 0
            total = sum(len(data) for data in tiles.values())
            assert server.bytes["/a.flac"] == total


def test_a_failed_fetch_reaches_the_tasks_and_a_retry_works(server, band_data):
    server.faults = [Status(404)]
    with pytest.raises(SourceError, match="404"):
        band_data.compute()
    server.faults = ()
    np.testing.assert_array_equal(band_data.compute(), PIXELS)


def test_tasks_and_plans_are_small(band_data):
    graph = band_data.data.dask
    layer = dict(next(iter(graph.layers.values())))
    plans = [t for k, t in layer.items() if not isinstance(k, tuple)]
    tasks = [t for k, t in layer.items() if isinstance(k, tuple)]
    assert len(plans) == 1
    assert len(tasks) == N_TILES
    assert max(len(pickle.dumps(task)) for task in tasks) < 1024
    assert len(pickle.dumps(plans[0])) < 2048 + 8 * N_TILES


def test_a_plan_pickles_and_reads(band_data):
    layer = dict(next(iter(band_data.data.dask.layers.values())))
    (plan,) = [t() for k, t in layer.items() if not isinstance(k, tuple)]
    again = pickle.loads(pickle.dumps(plan))
    assert isinstance(again, TilePlan)
    block = (slice(0, 1), slice(0, TILE), slice(0, TILE))
    np.testing.assert_array_equal(again.read(block), PIXELS[block])
    np.testing.assert_array_equal(again.read(block), PIXELS[block])  # as a retry does


def test_many_tiles_open_without_making_their_tasks(tmp_path):
    write_array(
        tmp_path / "many.flac", np.zeros((1, 3160, 3160), "uint8"), tile_size=10
    )
    ds = xr.open_dataset(tmp_path / "many.flac", engine="flacraster")
    assert ds.band_data.data.npartitions == 99_856
    assert not next(iter(ds.band_data.data.dask.layers.values())).is_materialized()


def test_more_tiles_point_to_larger_chunks(tmp_path):
    write_array(tmp_path / "a.flac", np.zeros((1, 3170, 3170), "uint8"), tile_size=10)
    with pytest.warns(ManyTilesWarning, match=r"100489 tiles.*chunks='auto'"):
        xr.open_dataset(tmp_path / "a.flac", engine="flacraster")
    ds = xr.open_dataset(tmp_path / "a.flac", engine="flacraster", chunks="auto")
    assert ds.band_data.data.npartitions == 1


def test_load_async_reads_the_pixels(server):
    ds = xr.open_dataset(
        f"{server.url}/a.flac",
        engine="flacraster",
        mask_and_scale=False,
        chunks=None,
        cache=False,
    )
    if not hasattr(ds, "load_async"):
        pytest.skip("this xarray has no load_async")
    loaded = asyncio.run(ds.load_async())
    np.testing.assert_array_equal(loaded.band_data.values, PIXELS)
    assert server.requests["/a.flac"] <= 3


CUBE = xr.Dataset(
    {
        "scaled": (("time", "y", "x"), (PIXELS[:, :90, :120] * 0.5).astype("float64")),
        "counts": (("time", "y", "x"), PIXELS[:, :90, :120].astype("int32")),
        "seen": (("time", "y", "x"), PIXELS[:, :90, :120] > 0),
        "when": (
            ("y", "x"),
            np.datetime64("2020-01-01", "ns")
            + PIXELS[0, :90, :120].astype("timedelta64[D]"),
        ),
    },
    {"time": np.arange(2), "y": np.arange(90.0), "x": np.arange(120.0)},
)
CUBE.scaled.encoding = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -9999}


@pytest.mark.parametrize(
    "chunks", [None, {}, {"y": 60, "x": 60}, {"y": -1}, "auto"], ids=str
)
def test_decoded_variables_are_fetched_ahead(tmp_path, chunks):
    write(CUBE, tmp_path / "cube.flac", tile_size=TILE)
    with FaultServer(tmp_path) as server:
        options = {} if chunks is None else {"chunks": chunks}
        ds = xr.open_dataset(f"{server.url}/cube.flac", engine="flacraster", **options)
        assert all(ds[name].chunks for name in CUBE)
        for name in CUBE:
            server.reset_counts()
            with dask.config.set(scheduler="threads", num_workers=2):
                found = ds[name].compute()
            xr.testing.assert_identical(
                found.drop_vars("spatial_ref", errors="ignore").drop_attrs(),
                CUBE[name].drop_attrs(),
            )
            assert found.dtype == CUBE[name].dtype == ds[name].dtype
            assert server.requests["/cube.flac"] <= 3
        once = server.bytes["/cube.flac"]
        assert once < (tmp_path / "cube.flac").stat().st_size


def test_chunks_that_cut_tiles_fetch_them_once(server):
    with pytest.warns(UserWarning, match="separate the stored chunks"):
        ds = xr.open_dataset(
            f"{server.url}/a.flac",
            engine="flacraster",
            mask_and_scale=False,
            chunks={"y": 50, "x": 77},
        )
    assert ds.band_data.chunksizes["y"] == (50,) * 6
    server.reset_counts()
    with dask.config.set(scheduler="threads", num_workers=2):
        np.testing.assert_array_equal(ds.band_data.compute(), PIXELS)
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        whole = raster.plan(tuple(slice(0, n) for n in PIXELS.shape))
    assert server.bytes["/a.flac"] <= whole.tile_nbytes + (64 << 10)
    assert server.requests["/a.flac"] <= 4


@pytest.mark.parametrize("chunks", [None, {}], ids=str)
def test_bands_as_variables_are_fetched_ahead(server, chunks):
    options = {} if chunks is None else {"chunks": chunks}
    ds = xr.open_dataset(
        f"{server.url}/a.flac", engine="flacraster", band_as_variable=True, **options
    )
    server.reset_counts()
    with dask.config.set(scheduler="threads", num_workers=2):
        found = ds.compute()
    for band in (0, 1):
        np.testing.assert_array_equal(found[f"band_{band + 1}"], PIXELS[band])
    assert server.requests["/a.flac"] <= 4
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        whole = raster.plan(tuple(slice(0, n) for n in PIXELS.shape))
    assert server.bytes["/a.flac"] <= whole.tile_nbytes + (64 << 10)
