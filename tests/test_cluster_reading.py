"""Reading on a dask.distributed cluster: requests, bytes and pixels."""

from __future__ import annotations

import pickle

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr

from flac_xarray import FlacRaster, convert_to_flac, dask_tiles, write_array
from tests.servers import FaultServer

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")

RNG = np.random.default_rng(12)
PIXELS = np.cumsum(RNG.integers(-9, 10, (2, 300, 330)), -1).astype("int16")
TILE = 30
N_TILES = 2 * 10 * 11
HEADER_NBYTES = 64 << 10
N_WORKERS = 2


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=N_WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as running_client,
    ):
        yield running_client


@pytest.fixture
def server(tmp_path):
    write_array(tmp_path / "a.flac", PIXELS, tile_size=TILE)
    with FaultServer(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(dask_tiles, "BATCH_NBYTES", 16 << 10)


def opened(server, **options):
    ds = xr.open_dataset(
        f"{server.url}/a.flac", engine="flacraster", mask_and_scale=False, **options
    )
    server.reset_counts()
    return ds.band_data


def tile_nbytes(server):
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        return raster.plan(tuple(slice(0, n) for n in PIXELS.shape)).tile_nbytes


@pytest.mark.usefixtures("client")
def test_tiles_are_fetched_in_batches_each_once(server):
    found = opened(server).compute()
    requests, moved = server.requests["/a.flac"], server.bytes["/a.flac"]
    np.testing.assert_array_equal(found, PIXELS)
    assert moved <= tile_nbytes(server) + N_WORKERS * HEADER_NBYTES
    # A batch of 16 KiB that spans rows of tiles and bands is one run of bytes.
    assert requests <= 2 * (tile_nbytes(server) >> 14) + N_WORKERS < N_TILES / 4


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("chunks", ["auto", {"band": 1, "y": 150, "x": 330}])
def test_tasks_of_many_tiles_fetch_their_own(server, chunks):
    # The scheduler gives neighbours to different workers: none may fetch the others'.
    total = opened(server, chunks=chunks).astype("int64").sum()
    assert int(total.compute()) == PIXELS.sum(dtype="int64")
    moved = server.bytes["/a.flac"]
    assert moved <= tile_nbytes(server) + N_WORKERS * HEADER_NBYTES


@pytest.mark.usefixtures("client")
def test_a_window_fetches_its_tiles_only(server):
    window = (1, slice(35, 115), slice(65, 145))  # 3 x 3 tiles
    found = opened(server)[window].compute()
    moved = server.bytes["/a.flac"]
    np.testing.assert_array_equal(found, PIXELS[window])
    with FlacRaster.open(f"{server.url}/a.flac") as raster:
        plan = raster.plan((slice(1, 2), *window[1:]))
    assert moved <= plan.tile_nbytes + N_WORKERS * HEADER_NBYTES


@pytest.mark.usefixtures("client")
def test_a_mask_comes_with_its_tiles(tmp_path):
    pixels = np.cumsum(RNG.integers(-9, 10, (3, 300, 330)), -1).astype("uint8")
    valid = RNG.random((300, 330)) > 0.3
    profile = {"driver": "GTiff", "width": 330, "height": 300, "dtype": "uint8"}
    to_world = rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)
    profile |= {"crs": "EPSG:32633", "transform": to_world, "count": 3}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "a.tif", "w", **profile) as out,
    ):
        out.write(pixels)
        out.write_mask(valid)
    convert_to_flac(tmp_path / "a.tif", tmp_path / "a.flac", tile_size=TILE)
    with FaultServer(tmp_path) as running:
        ds = xr.open_dataset(f"{running.url}/a.flac", engine="flacraster")
        running.reset_counts()
        found = ds.band_data.compute()
        assert running.requests["/a.flac"] < 330 / 4
    expected = np.where(valid, pixels, np.float32(np.nan))
    np.testing.assert_array_equal(found, expected)


def batches(array):
    wanted = set(dask.core.flatten(array.data.__dask_keys__()))
    made = array.data.dask.cull(wanted).to_dict()
    return {k: t for k, t in made.items() if str(k[0]).startswith("tile-batch")}


def test_one_process_has_no_tasks_that_fetch(server):
    with dask.config.set(scheduler="threads"):
        assert not batches(opened(server))


def test_a_scheduler_elsewhere_makes_them_too(server):
    # Where a cluster's client lives elsewhere, all the scheduler has is the pickle.
    with dask.config.set(scheduler="threads"):
        assert batches(pickle.loads(pickle.dumps(opened(server))))


def test_a_file_at_hand_has_none(tmp_path):
    write_array(tmp_path / "a.flac", PIXELS, tile_size=TILE)
    ds = xr.open_dataset(tmp_path / "a.flac", engine="flacraster")
    with dask.config.set(scheduler="dask.distributed"):
        assert not batches(ds.band_data)


def test_batches_hold_every_tile_once_and_stay_small(server):
    with dask.config.set(scheduler="dask.distributed"):
        made = batches(opened(server))
    numbers = [task.args[1] for task in made.values()]
    assert sorted(n for batch in numbers for n in batch) == list(range(N_TILES))
    together = (16 << 10) / (tile_nbytes(server) / N_TILES)
    assert 2 < max(map(len, numbers)) <= together
    assert len(numbers) <= N_TILES / (together - 1) + 1


def test_the_tasks_give_the_pixels_under_any_scheduler(server):
    array = opened(server)
    wanted = list(dask.core.flatten(array.data.__dask_keys__()))
    with dask.config.set(scheduler="dask.distributed"):
        made = array.data.dask.cull(set(wanted)).to_dict()
    for key, block in zip(wanted, dask.get(made, wanted), strict=True):
        _, band, row, col = key
        rows = slice(row * TILE, row * TILE + TILE)
        cols = slice(col * TILE, col * TILE + TILE)
        np.testing.assert_array_equal(block, PIXELS[band : band + 1, rows, cols])


def test_a_replaced_file_is_an_error_on_a_cluster(client, server, tmp_path):
    del client
    array = opened(server)
    write_array(tmp_path / "a.flac", PIXELS[:, ::-1], tile_size=TILE, overwrite=True)
    with pytest.raises(Exception, match="replaced"):
        array.compute()
