"""Opening a URL again and again, and a file that is replaced meanwhile."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import xarray as xr

from flac_xarray import FlacRaster, Window, fetch_headers, header_cache, write_array
from flac_xarray.errors import SourceChangedError
from tests.servers import FaultServer, Together

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 60000, (1, 400, 400)).astype("uint16")


@pytest.fixture
def server(tmp_path):
    write_array(tmp_path / "a.flac", PIXELS, tile_size=100)
    with FaultServer(tmp_path) as running:
        yield running


def test_fifty_opens_read_the_header_once(server):
    rasters = [FlacRaster.open(f"{server.url}/a.flac") for _ in range(50)]
    assert server.requests["/a.flac"] == 1
    np.testing.assert_array_equal(rasters[7].read(), PIXELS)
    assert rasters[7].stats.requests == 1
    assert rasters[8].stats.requests == 0


def test_fifty_datasets_read_the_header_once(server):
    for _ in range(50):
        xr.open_dataset(f"{server.url}/a.flac", engine="flacraster")
    assert server.requests["/a.flac"] == 1


def test_a_raster_unpickled_here_reads_no_header(server):
    raster = FlacRaster.open(f"{server.url}/a.flac")
    again = pickle.loads(pickle.dumps(raster))
    np.testing.assert_array_equal(again.read(), PIXELS)
    assert server.requests["/a.flac"] <= 3


def test_other_options_are_another_file(server):
    url = f"{server.url}/a.flac"
    FlacRaster.open(url)
    FlacRaster.open(url, storage_options={"headers": {"X-Token": "other"}})
    assert server.requests["/a.flac"] == 2


def test_a_replaced_file_is_an_error_and_then_read_anew(server, tmp_path):
    url = f"{server.url}/a.flac"
    FlacRaster.open(url)
    write_array(tmp_path / "a.flac", PIXELS + 1, tile_size=100, overwrite=True)
    os.utime(tmp_path / "a.flac", (1, 1))
    stale = FlacRaster.open(url)
    with pytest.raises(SourceChangedError, match="replaced"):
        stale.read(Window(0, 0, 10, 10))
    np.testing.assert_array_equal(FlacRaster.open(url).read(), PIXELS + 1)


def test_a_header_is_kept_for_a_minute_only(server, monkeypatch):
    FlacRaster.open(f"{server.url}/a.flac")
    monkeypatch.setattr(header_cache, "SECONDS", -1.0)
    FlacRaster.open(f"{server.url}/a.flac")
    assert server.requests["/a.flac"] == 2


@pytest.mark.parametrize("size", [40, 400], ids=["whole file", "header"])
def test_headers_fetched_together_are_those_that_open(tmp_path, size):
    names = [f"{k}.flac" for k in range(20)]
    for k, name in enumerate(names):
        write_array(tmp_path / name, PIXELS[:, :size, :size] + k, tile_size=100)
    with FaultServer(tmp_path) as server:
        urls = [server.url_of(name) for name in names]
        server.faults = [Together(len(urls))]
        fetch_headers(urls)
        assert server.requests.total() == len(urls)
        assert server.connections <= len(urls) + 3
        rasters = [FlacRaster.open(url) for url in urls]
        assert server.requests.total() == len(urls)
        for k in (0, 19):
            np.testing.assert_array_equal(
                rasters[k].read(), PIXELS[:, :size, :size] + k
            )


def test_fetching_headers_finds_what_is_no_file(server):
    with pytest.raises(FileNotFoundError, match=r"missing\.flac"):
        fetch_headers([f"{server.url}/a.flac", f"{server.url}/missing.flac"])


def test_fetching_headers_leaves_small_files_to_one_opening(tmp_path):
    write_array(tmp_path / "a.flac", PIXELS[:, :40, :40])
    with FaultServer(tmp_path) as server:
        url = server.url_of("a.flac")
        fetch_headers([url])
        fetch_headers([url])
        assert server.requests.total() == 1
        FlacRaster.open(url)
        write_array(tmp_path / "a.flac", PIXELS[:, 1:41, :40], overwrite=True)
        found = FlacRaster.open(url).read()
        np.testing.assert_array_equal(found, PIXELS[:, 1:41, :40])
