"""How many requests, and how many bytes, a file of 121 tiles takes over HTTP."""

from __future__ import annotations

import numpy as np
import pytest

from flac_xarray import FlacRaster, Window, write_array
from flac_xarray.range_server import RangeServer

TILE = 128
PIXELS = np.random.default_rng(2).integers(0, 9000, (1, 1400, 1400)).astype("uint16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_array(folder / "a.flac", PIXELS, tile_size=TILE, effort=0)
    return folder


@pytest.fixture
def server(folder):
    with RangeServer(folder) as running:
        yield running


@pytest.fixture
def raster(server):
    with FlacRaster.open(server.url_of("a.flac"), cache_nbytes=0) as opened:
        assert opened.array().grid.n_tiles == 121
        yield opened


def test_opening_takes_one_request_of_64_kb(server, raster):
    assert raster.stats.requests == 1
    assert server.requests["/a.flac"] == 1
    assert server.bytes["/a.flac"] <= 64 << 10


def test_a_tile_takes_one_request_of_exactly_its_bytes(server, raster):
    server.reset_counts()
    found = raster.read(Window(4 * TILE, 7 * TILE, TILE, TILE))
    np.testing.assert_array_equal(found, PIXELS[:, 512:640, 896:1024])
    plan = raster.plan((slice(0, 1), slice(512, 640), slice(896, 1024)))
    assert server.requests["/a.flac"] == 1
    assert server.bytes["/a.flac"] == plan.tile_nbytes


def test_nine_tiles_take_three_requests_and_nothing_else(server, raster):
    server.reset_counts()
    found = raster.read(Window(300, 400, 300, 300))
    np.testing.assert_array_equal(found, PIXELS[:, 300:600, 400:700])
    plan = raster.plan((slice(0, 1), slice(300, 600), slice(400, 700)))
    assert len(plan.cuts) == 9
    assert server.requests["/a.flac"] == len(plan.requests) <= 3
    assert server.bytes["/a.flac"] == plan.tile_nbytes
