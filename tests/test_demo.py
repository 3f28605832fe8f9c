"""The demonstration, and the scenes it and the tests are made of."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from flac_xarray.cli import main
from flac_xarray.demo import run_demo
from flac_xarray.reader import FlacRaster
from flac_xarray.scenes import (
    classes_scene,
    dated_scene,
    multispectral_scene,
    terrain_scene,
)


@pytest.fixture(scope="module")
def dem(tmp_path_factory):
    path = tmp_path_factory.mktemp("dem") / "dem.tif"
    terrain_scene(900, 1000).write_geotiff(path)
    return path


def test_demo_of_a_raster(dem, tmp_path):
    said = []
    report = run_demo(tmp_path, dem, say=said.append)
    assert report.equal
    assert not report.is_synthetic
    assert (report.shape, report.dtype) == ((1, 900, 1000), "int16")
    assert report.pixel_nbytes == 900 * 1000 * 2
    assert report.flac_nbytes == (tmp_path / "scene.flac").stat().st_size
    assert report.flac_nbytes < report.geotiff_nbytes < report.pixel_nbytes
    assert report.open_requests == 1
    assert report.open_nbytes <= 64 << 10
    assert 1 <= report.read_requests <= 3
    assert report.read_nbytes < report.flac_nbytes
    assert len(said) == 3


def test_demo_command_says_what_was_moved(dem, tmp_path):
    kept = tmp_path / "kept"
    result = CliRunner().invoke(main, ["demo", str(dem), "--keep", str(kept)])
    assert result.exit_code == 0, result.output
    for text in ("bit for bit", "1 request", "saved", "DEFLATE"):
        assert text in result.stdout
    with FlacRaster.open(kept / "scene.flac") as raster, rasterio.open(dem) as original:
        np.testing.assert_array_equal(raster.read(), original.read())


def test_demo_without_a_raster_says_that_it_is_synthetic(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 0, result.output
    assert "synthetic" in result.stdout
    assert "bit for bit" in result.stdout
    assert not list(tmp_path.iterdir())


def test_demo_of_12_bits_and_a_mask(tmp_path):
    path = tmp_path / "a.tif"
    pixels = np.arange(60 * 70, dtype="uint16").reshape(60, 70) % 4096
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            *(path, "w"),
            driver="GTiff",
            count=1,
            height=60,
            width=70,
            dtype="uint16",
            nbits=12,
            transform=rasterio.Affine(2, 0, 9, 0, -2, 9),
        ) as out,
    ):
        out.write(pixels, 1)
        out.write_mask(pixels > 99)
    report = run_demo(tmp_path, path)
    assert report.equal
    assert report.geotiff_nbytes > 0


def test_demo_of_nothing(tmp_path):
    result = CliRunner().invoke(main, ["demo", str(tmp_path / "none.tif")])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("make", [classes_scene, multispectral_scene, terrain_scene])
def test_scenes_follow_from_their_seed(make, tmp_path):
    one, again, other = make(90, 70), make(90, 70), make(90, 70, seed=2)
    np.testing.assert_array_equal(one.pixels, again.pixels)
    assert (one.pixels != other.pixels).any()
    one.write_geotiff(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), one.pixels)
        assert dataset.crs.to_string() == one.crs
        assert dataset.nodata == one.nodata
        assert "SYNTHETIC" in dataset.tags()


def test_a_dated_scene_is_the_same_land_under_another_sky():
    may, again, june = (dated_scene(day, 200, 200).pixels for day in (130, 130, 165))
    np.testing.assert_array_equal(may, again)
    clear = (may[0] > 0) & (june[0] > 0)
    assert 0.1 < clear.mean() < 1
    assert (may == 0).all(axis=0)[~clear & (june[0] > 0)].all()
    red, nir = (np.float32([may[k], june[k]])[:, clear] - 1000 for k in (2, 3))
    ndvi = (nir - red) / (nir + red)
    fields = ndvi[1] - ndvi[0] > 0.15
    assert fields.any()
    assert not fields.all()
    other = dated_scene(130, 200, 200, seed=2).pixels
    assert (other != may).any()


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [(multispectral_scene, 1.5, 1.8), (terrain_scene, 2.2, 3.0)],
    ids=["multispectral", "terrain"],
)
def test_scenes_compress_like_real_ones(make, least, most, tmp_path):
    # DEFLATE with predictor on real scenes: Sentinel-2 1.63, the elevation model 2.55.
    scene = make(1024, 1024)
    scene.write_geotiff(
        *(tmp_path / "a.tif",), compress="deflate", predictor=2, tiled=True
    )
    ratio = scene.pixels.nbytes / (tmp_path / "a.tif").stat().st_size
    assert least < ratio < most
