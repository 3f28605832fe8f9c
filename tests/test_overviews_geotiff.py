"""Overviews of GeoTIFFs: taken as they are, made, and brought back."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.vrt import WarpedVRT

from flac_xarray import (
    FlacRaster,
    UnsupportedDataError,
    Window,
    convert_to_flac,
    convert_to_geotiff,
)
from flac_xarray.pyramid import Pyramid

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

TILED = {
    "driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64,
    "compress": "deflate", "interleave": "pixel",
}  # fmt: skip
SIZE = (237, 190)
OPTIONS = {"tile_size": 64, "effort": 0}


def smooth(count, dtype, size=SIZE):
    rows, cols = np.indices(size)
    rng = np.random.default_rng(5)
    bands = [
        rows // 3 + cols // (k + 2) + rng.integers(0, 9, size) for k in range(count)
    ]
    return np.stack(bands).astype(dtype)


def hole(size=SIZE):
    mask = np.full(size, 255, "uint8")
    mask[40:111, 33:120] = 0
    mask[np.random.default_rng(2).random(size) < 0.05] = 0
    return mask


def make(
    path, pixels, factors=(), method="average", mask=None, *, alpha=False, **profile
):
    count, height, width = pixels.shape
    profile = {**TILED, "dtype": pixels.dtype, "count": count, **profile}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", width=width, height=height, **profile) as out:
            out.write(pixels)
            if mask is not None:
                out.write_mask(mask)
            if alpha:
                out.colorinterp = [*out.colorinterp[:-1], ColorInterp.alpha]
        if factors:
            with rasterio.open(path, "r+") as out:
                out.build_overviews(list(factors), Resampling[method])
    return path


def levels_of(path):
    with rasterio.open(path) as dataset:
        count = len(dataset.overviews(1))
    found = []
    for k in range(count):
        with rasterio.open(path, overview_level=k) as level:
            found.append((level.read(), level.dataset_mask()))
    return found


def assert_same_levels(a, b):
    assert len(a) == len(b) > 0
    for (pixels, mask), (others, other_mask) in zip(a, b, strict=True):
        np.testing.assert_array_equal(pixels.view("u1"), others.view("u1"))
        np.testing.assert_array_equal(mask, other_mask)


SOURCES = {
    "photo": {"pixels": smooth(3, "uint8"), "photometric": "RGB"},
    "mask": {"pixels": smooth(3, "uint8"), "mask": hole()},
    "nodata": {"pixels": smooth(2, "float32"), "nodata": 7.0, "interleave": "band"},
    "bits": {"pixels": smooth(1, "uint8") % 2, "nbits": 1, "method": "nearest"},
    "strips": {"pixels": smooth(1, "int16"), "tiled": False, "blockysize": 16},
    "complex": {"pixels": smooth(1, "complex64") * (1 + 2j)},
    "alpha": {
        "pixels": np.concatenate([smooth(3, "uint8"), hole()[None]]),
        "alpha": True,
    },
}


@pytest.mark.parametrize("name", SOURCES)
def test_overviews_of_the_source_come_back(name, tmp_path):
    source = make(tmp_path / "a.tif", factors=(2, 4, 8), **SOURCES[name])
    expected = levels_of(source)
    header = convert_to_flac(source, tmp_path / "a.flac", **OPTIONS)
    assert header.levels == (0, 1, 2, 3)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        for level, (pixels, _) in enumerate(expected, 1):
            found = raster.read(level=level)
            np.testing.assert_array_equal(found.view("u1"), pixels.view("u1"))
        convert_to_geotiff(raster, tmp_path / "b.tif")
        convert_to_geotiff(raster, tmp_path / "c.tif", overviews=False)
    assert_same_levels(levels_of(tmp_path / "b.tif"), expected)
    assert levels_of(tmp_path / "c.tif") == []
    with rasterio.open(source) as a, rasterio.open(tmp_path / "b.tif") as b:
        assert a.profile == b.profile
        np.testing.assert_array_equal(a.read(), b.read())
        np.testing.assert_array_equal(a.dataset_mask(), b.dataset_mask())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.flac", "a.tif", "b.tif", "c.tif",
    ]  # fmt: skip


def test_external_overviews_and_none(tmp_path):
    path = make(tmp_path / "a.tif", smooth(1, "uint16"))
    assert convert_to_flac(path, tmp_path / "a.flac", **OPTIONS).levels == (0,)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([3, 9], Resampling.average)
    assert (tmp_path / "a.tif.ovr").exists()
    header = convert_to_flac(path, tmp_path / "b.flac", **OPTIONS)
    assert [a.shape for a in header.arrays] == [(1, 237, 190), (1, 79, 64), (1, 27, 22)]
    header = convert_to_flac(path, tmp_path / "c.flac", overviews="none", **OPTIONS)
    assert header.levels == (0,)


def test_what_is_not_the_file_of_its_name_has_no_overviews(tmp_path):
    place = {"crs": "EPSG:32618", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
    path = make(tmp_path / "a.tif", smooth(1, "uint8"), (2, 4), **place)
    with rasterio.open(path) as dataset, WarpedVRT(dataset, crs="EPSG:4326") as warped:
        assert convert_to_flac(warped, tmp_path / "a.flac", **OPTIONS).levels == (0,)
    with rasterio.open(path, overview_level=0) as half:
        assert convert_to_flac(half, tmp_path / "b.flac", **OPTIONS).levels == (0,)
    with rasterio.open(path) as dataset:
        assert convert_to_flac(dataset, tmp_path / "c.flac", **OPTIONS).levels == (
            0,
            1,
            2,
        )


@pytest.mark.parametrize("method", ["average", "bilinear", "cubic", "rms", "nearest"])
@pytest.mark.parametrize("name", ["photo", "nodata", "mask", "alpha"])
def test_overviews_that_are_made_are_gdal_s(name, method, tmp_path):
    scene = {**SOURCES[name], "interleave": "pixel", "method": method}
    expected = levels_of(make(tmp_path / "gdal.tif", factors=(2, 4), **scene))
    source = make(tmp_path / "a.tif", **scene)
    flac = tmp_path / "a.flac"
    header = convert_to_flac(
        source, flac, overviews=(2, 4), resampling=method, tile_size=64, effort=0
    )
    with FlacRaster.open(flac) as raster:
        for level, (pixels, mask) in enumerate(expected, 1):
            found = raster.read(level=level)
            if name != "nodata":
                np.testing.assert_array_equal(found, pixels)
            else:
                np.testing.assert_allclose(found, pixels, rtol=1e-6)
            masks = [
                k
                for k, a in enumerate(header.arrays)
                if (a.role, a.level) == ("mask", level)
            ]
            if not masks:
                continue
            plane = tuple(slice(0, n) for n in mask.shape)
            found = raster.read_selection(plane, position=masks[0])
            if method == "nearest" and level > 1:
                # GDAL takes pixels from the level before, and the mask from level 0.
                np.testing.assert_array_equal(found, _nearest(expected[0][1]))
            else:
                np.testing.assert_array_equal(found, mask)


def _nearest(mask):
    """Every level but the first is made of the one before."""
    target = [-(-n // 2) for n in mask.shape]
    rows, cols = (
        (0.5 + np.arange(m) * (n / m)).astype(int)
        for n, m in zip(mask.shape, target, strict=True)
    )
    return mask[np.ix_(rows, cols)]


def test_with_a_mask_only_rows_of_tiles_are_kept(tmp_path, monkeypatch):
    tall = (1500, 90)
    source = make(tmp_path / "a.tif", smooth(2, "uint8", tall), mask=hole(tall))
    most = []
    add = Pyramid.add

    def watched(self, *args):
        ready = add(self, *args)
        most.append(self.n_kept)
        return ready

    monkeypatch.setattr(Pyramid, "add", watched)
    monkeypatch.setattr("flac_xarray.geotiff.to_flac.BLOCK_NBYTES", 1 << 14)
    convert_to_flac(
        source, tmp_path / "a.flac", overviews="auto", resampling="average",
        tile_size=16, bands_per_tile=1, effort=0, threads=1,
    )  # fmt: skip
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        n_tiles = sum(a.grid.n_tiles for a in raster.header.arrays)
    a_row = 3 * -(-90 // 16)
    assert n_tiles > 90 * a_row
    assert max(most) <= 8 * a_row


def test_the_engine_opens_the_levels_that_rioxarray_opens(tmp_path):
    place = {"crs": "EPSG:32618", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
    path = make(tmp_path / "a.tif", smooth(2, "int16"), (2, 4), nodata=7, **place)
    convert_to_flac(path, tmp_path / "a.flac", **OPTIONS)
    for level in (0, 1):
        ours = xr.open_dataset(
            tmp_path / "a.flac", engine="flacraster", overview_level=level
        )
        theirs = rioxarray.open_rasterio(path, overview_level=level, masked=True)
        np.testing.assert_array_equal(ours.band_data, theirs)
        np.testing.assert_allclose(ours.x, theirs.x, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.y, theirs.y, rtol=0, atol=1e-6)
        assert ours.rio.crs == theirs.rio.crs
    tree = xr.open_datatree(tmp_path / "a.flac", engine="flacraster")
    assert tree["overview_1"].band_data.shape == (2, 60, 48)


def test_a_window_takes_no_overviews_and_a_level_is_a_raster(tmp_path):
    source = make(tmp_path / "a.tif", smooth(3, "uint8"), (2, 4), mask=hole())
    convert_to_flac(source, tmp_path / "a.flac", **OPTIONS)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        convert_to_geotiff(raster, tmp_path / "w.tif", window=Window(0, 0, 99, 99))
        convert_to_geotiff(raster, tmp_path / "l.tif", level=2)
    assert levels_of(tmp_path / "w.tif") == []
    with rasterio.open(tmp_path / "l.tif") as found:
        pixels, mask = levels_of(source)[1]
        np.testing.assert_array_equal(found.read(), pixels)
        assert found.mask_flag_enums[0] == [MaskFlags.per_dataset]
        np.testing.assert_array_equal(found.dataset_mask(), mask)


def test_classes_are_not_added_up(tmp_path):
    path = make(tmp_path / "a.tif", smooth(1, "uint8") % 5, photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {k: (k, 2 * k, 9, 255) for k in range(5)})
    with pytest.raises(UnsupportedDataError, match="has a colour table"):
        convert_to_flac(
            path, tmp_path / "a.flac", overviews="auto", resampling="average", **OPTIONS
        )
    assert not (tmp_path / "a.flac").exists()
    convert_to_flac(
        path, tmp_path / "a.flac", overviews="auto", resampling="mode", **OPTIONS
    )


WITH_LEVELS = [
    "clim-whoi-sst-t0-cog.tif",
    "dem-copdem30-N00E006-f32.tif",
    "dem-lidar-dsm-283x259-f32.tif",
    "l7-etm-6band-uint8-ovr.tif",
    "lc-cmap-dateline-int8.tif",
    "meta-goes-geos.tif",
    "modis-scale-offset-2band-i16.tif",
    "rgbn-naip-2019-5m.tif",
]


@pytest.mark.real
@pytest.mark.parametrize("name", WITH_LEVELS)
def test_the_last_overview_is_the_dataset_that_rioxarray_opens(
    name, real_data, tmp_path
):
    path, flac = real_data / name, tmp_path / "a.flac"
    level = convert_to_flac(path, flac, effort=0).levels[-1] - 1
    # An overview of GDAL has forgotten scales and offsets: ours has not.
    masked = "scale-offset" not in name
    options = {"mask_and_scale": masked}
    with (
        xr.open_dataset(
            path, engine="rasterio", open_kwargs={"overview_level": level}, **options
        ) as theirs,
        xr.open_dataset(
            flac, engine="flacraster", overview_level=level, **options
        ) as found,
    ):
        if masked:
            xr.testing.assert_identical(found.load(), theirs.load())
        else:
            xr.testing.assert_equal(found.load(), theirs.load())
            assert found.band_data.attrs["scales"] == (1e-4, 1e-3)
