"""What people do next with a dataset: rioxarray, dask, Zarr, matplotlib, odc-geo."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers `.rio`)
import xarray as xr

from flac_xarray import convert_to_flac, write

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Zarr (V3|format 3) specification"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
]
PIXELS = np.cumsum(
    np.random.default_rng(3).integers(-9, 10, (2, 200, 230)), axis=-1
).astype("int16")
W, S, E, N = 500_300, 3_998_900, 501_100, 3_999_600
CLIP = {
    "type": "Polygon",
    "coordinates": [[[W, S], [E, S], [E, N], [W, N], [W, S]]],
}


@pytest.fixture
def pair(tmp_path):
    """The same scene through rioxarray from a GeoTIFF, and from its conversion."""
    PIXELS[0, :50, :50] = -999
    profile = {
        "driver": "GTiff", "height": 200, "width": 230, "count": 2, "nodata": -999,
        "dtype": "int16", "crs": "EPSG:32618", "tiled": True,
        "blockxsize": 64, "blockysize": 64,
        "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000),
    }  # fmt: skip
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as out:
        out.write(PIXELS)
    convert_to_flac(
        tmp_path / "a.tif", tmp_path / "a.flac", tile_size=64, overviews="auto"
    )
    with (
        xr.open_dataset(tmp_path / "a.tif", engine="rasterio") as theirs,
        xr.open_dataset(tmp_path / "a.flac", engine="flacraster") as ours,
    ):
        yield theirs, ours


def test_clip_and_reproject(pair):
    theirs, ours = (
        ds.rio.clip([CLIP]).rio.reproject("EPSG:4326", resampling=1) for ds in pair
    )
    xr.testing.assert_identical(ours.compute(), theirs.compute())
    assert ours.rio.crs == "EPSG:4326"


def test_to_raster(pair, tmp_path):
    for name, ds in zip(("theirs", "ours"), pair, strict=True):
        ds.band_data.rio.to_raster(tmp_path / f"{name}.tif")
    with (
        rasterio.open(tmp_path / "ours.tif") as ours,
        rasterio.open(tmp_path / "theirs.tif") as theirs,
    ):
        np.testing.assert_array_equal(ours.read(), theirs.read())
        assert ours.profile == theirs.profile


def test_write_crs_then_write(pair, tmp_path):
    _, ours = pair
    ndvi = (ours.band_data[1] - ours.band_data[0]).rename("ndvi")
    write(ndvi.rio.write_crs("EPSG:32618"), tmp_path / "b.flac", tile_size=64)
    with xr.open_dataset(tmp_path / "b.flac", engine="flacraster") as got:
        assert got.rio.crs == "EPSG:32618"
        assert got.rio.transform() == ours.rio.transform()
        np.testing.assert_array_equal(got.ndvi, ndvi)


def test_map_blocks(pair):
    theirs, ours = pair
    doubled = xr.map_blocks(lambda block: block * 2, ours, template=ours)
    assert doubled.band_data.chunks == ours.band_data.chunks
    np.testing.assert_array_equal(doubled.band_data, theirs.band_data * 2)


def test_to_zarr_and_back(pair, tmp_path):
    _, ours = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours.to_zarr(tmp_path / "a.zarr")
        back = xr.open_zarr(tmp_path / "a.zarr", decode_coords="all")
    write(back, tmp_path / "b.flac", tile_size=64)
    with xr.open_dataset(tmp_path / "b.flac", engine="flacraster") as got:
        xr.testing.assert_equal(got.compute(), ours.compute())
        assert got.rio.crs == ours.rio.crs


@pytest.mark.usefixtures("pair")
def test_a_plot_of_one_overview(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    overview = xr.open_dataset(
        tmp_path / "a.flac", engine="flacraster", overview_level=0
    )
    mesh = overview.band_data[0].plot()
    shown = np.ma.filled(mesh.get_array().astype("float32"), np.nan)
    np.testing.assert_array_equal(shown.reshape(100, 115), overview.band_data[0])
    pyplot.close("all")


def test_odc_geo_sees_where_it_lies(pair):
    pytest.importorskip("odc.geo.xr")
    theirs, ours = pair
    assert ours.odc.geobox == theirs.odc.geobox
    assert ours.odc.crs.epsg == 32618
