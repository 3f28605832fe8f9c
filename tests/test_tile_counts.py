"""What is moved: some bands of many, a pixel's series, a folder of dates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401  (registers `.rio`)
import xarray as xr

from flac_xarray import FlacRaster, write
from flac_xarray.range_server import RangeServer

RNG = np.random.default_rng(23)
BANDS = RNG.integers(0, 10_000, (13, 256, 256)).astype("uint16")
TIMES = RNG.integers(0, 10_000, (20, 192, 192)).astype("uint16")
TILE = 64


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    bands = xr.DataArray(BANDS, dims=("band", "y", "x"), name="t")
    series = xr.DataArray(TIMES, dims=("time", "y", "x"), name="t")
    series["time"] = pd.date_range("2026-01-01", periods=20)
    for interleave in ("band", "pixel"):
        target = folder / f"{interleave}.flac"
        write(bands, target, tile_size=TILE, interleave=interleave)
    write(series, folder / "series.flac", tile_size=TILE)
    with RangeServer(folder) as running:
        yield running


@dataclass(frozen=True)
class Moved:
    """A selection, and how many bands' worth of tiles it moves."""

    file: str
    bands: list[int]
    expected: list[int]


MOVED = [
    Moved("band", [3, 2, 1], [1, 2, 3]),
    Moved("band", [0, 7, 12], [0, 7, 12]),
    Moved("pixel", [3, 2, 1], list(range(8))),
    Moved("pixel", [0, 12], list(range(13))),
]


@pytest.mark.parametrize("case", MOVED, ids=lambda c: f"{c.file}-{c.bands}")
@pytest.mark.parametrize("options", [{}, {"chunks": None, "cache": False}])
def test_some_bands_move_their_bytes_only(case, options, server):
    url = f"{server.url}/{case.file}.flac"
    with FlacRaster.open(url) as raster:
        n = raster.array().tile[0]
        groups = sorted({band // n for band in case.expected})
        plans = [
            raster.plan(
                (slice(g * n, min(g * n + n, 13)), slice(0, 256), slice(0, 256))
            )
            for g in groups
        ]
        nbytes = sum(plan.tile_nbytes for plan in plans)
        everything = raster.nbytes
    ds = xr.open_dataset(url, engine="flacraster", **options)
    server.reset_counts()
    np.testing.assert_array_equal(ds.t.isel(band=case.bands), BANDS[case.bands])
    assert server.bytes[f"/{case.file}.flac"] == nbytes
    if case.file == "band":
        assert nbytes < everything * 3.05 / 13


@pytest.mark.parametrize("options", [{}, {"chunks": None, "cache": False}])
def test_a_pixel_s_series_touches_the_tiles_of_its_column(options, server):
    url = f"{server.url}/series.flac"
    with FlacRaster.open(url) as raster:
        column = raster.plan((slice(0, 20), slice(100, 101), slice(70, 71)))
    assert len(column.cuts) == 20
    ds = xr.open_dataset(url, engine="flacraster", **options)
    server.reset_counts()
    np.testing.assert_array_equal(ds.t.isel(y=100, x=70), TIMES[:, 100, 70])
    assert server.bytes["/series.flac"] == column.tile_nbytes


def test_a_folder_of_dates_becomes_one_dataset(tmp_path):
    for day in range(4):
        ds = xr.Dataset({"t": (("y", "x"), TIMES[day])}).rio.write_crs("EPSG:32618")
        ds.attrs["acquired"] = f"2026-01-{day + 1:02}T10:20:30"
        write(ds, tmp_path / f"scene-{3 - day}.flac", tile_size=TILE)

    def dated(ds: xr.Dataset) -> xr.Dataset:
        return ds.expand_dims(time=[pd.Timestamp(ds.attrs["acquired"])])

    with xr.open_mfdataset(
        str(tmp_path / "*.flac"),
        engine="flacraster",
        preprocess=dated,
        combine="by_coords",
        combine_attrs="drop_conflicts",
    ) as stack:
        assert stack.t.chunksizes["y"] == (64, 64, 64)
        assert stack.time.dt.day.to_numpy().tolist() == [1, 2, 3, 4]
        np.testing.assert_array_equal(stack.t, TIMES[:4])
        assert stack.rio.crs == "EPSG:32618"
