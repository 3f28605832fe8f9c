"""Overviews made while a file is written: the same bits whatever the order and door."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest

from flac_xarray import (
    ArrayInfo,
    FlacRaster,
    FlacRasterWriter,
    FormatError,
    Header,
    UnsupportedDataError,
    encode_array,
    write_array,
)
from flac_xarray.overview_plan import OverviewPlan
from flac_xarray.pyramid import Pyramid
from flac_xarray.resampling import METHODS
from flac_xarray.sinks import MemorySink
from flac_xarray.validate import validate_raster
from tests.test_resampling import gdal

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)

PIXEL_INTERLEAVED = {
    "interleave": "pixel", "compress": "deflate",
    "tiled": True, "blockxsize": 64, "blockysize": 64,
}  # fmt: skip
"""Layouts of which GDAL makes each level of the one before, with every method."""


def scene(dtype="uint8", shape=(3, 213, 141), seed=0):
    rng = np.random.default_rng(seed)
    ground = np.add.outer(np.hypot(*np.indices(shape[-2:])), np.arange(shape[0]) * 9)
    pixels = np.moveaxis(ground, -1, 0) + rng.normal(size=shape) * 9
    return pixels.clip(0, 250).astype(dtype)


def levels_of(data) -> list[np.ndarray]:
    with FlacRaster.open(data) as raster:
        return [raster.read(level=k) for k in raster.header.levels]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_level_is_gdal_s(method, dtype):
    pixels = scene(dtype)
    data = encode_array(
        pixels, tile_size=(2, 32, 32), overviews=(2, 4, 8), resampling=method, effort=0
    )
    full, *levels = levels_of(data)
    np.testing.assert_array_equal(full, pixels)
    expected = gdal(pixels, method, factors=(2, 4, 8), **PIXEL_INTERLEAVED)
    for found, level in zip(levels, expected, strict=True):
        if dtype == "uint8" or method in ("nearest", "mode"):
            np.testing.assert_array_equal(found, level)
        elif method == "average":
            # GDAL adds four columns at a time, and those left over in another order.
            width = level.shape[-1] // 4 * 4
            np.testing.assert_array_equal(found[..., :width], level[..., :width])
            np.testing.assert_allclose(found, level, rtol=3e-7)
        else:
            np.testing.assert_allclose(found, level, rtol=0, atol=1e-4)
    assert validate_raster(data, full=True).ok


@pytest.mark.parametrize("nodata", [7, 0])
def test_nodata_of_every_level_is_gdal_s(nodata):
    pixels = scene("int16", (2, 130, 131))
    pixels[:, 20:70, 11:90] = nodata
    pixels[np.random.default_rng(1).random(pixels.shape) < 0.1] = nodata
    for method in ("average", "mode", "bilinear", "cubic"):
        data = encode_array(
            pixels, tile_size=40, nodata=nodata, overviews="auto", resampling=method
        )
        _, *levels = levels_of(data)
        expected = gdal(pixels, method, nodata, (2, 4), **PIXEL_INTERLEAVED)
        for found, level in zip(levels, expected, strict=True):
            np.testing.assert_array_equal(found, level)


def test_auto_goes_on_until_one_tile_covers_the_raster():
    shapes = [
        a.shape
        for a in levels_of(encode_array(scene(), tile_size=32, overviews="auto"))
    ]
    assert shapes == [(3, 213, 141), (3, 107, 71), (3, 54, 36), (3, 27, 18)]
    one = encode_array(scene(), tile_size=256, overviews="auto")
    assert one == encode_array(scene(), tile_size=256)


def test_transforms_and_the_method_are_in_the_header():
    data = encode_array(
        scene(), overviews=(2, 8), resampling="average",
        crs="EPSG:32631", transform=(10.0, 0.0, 5e5, 0.0, -10.0, 4e6),
    )  # fmt: skip
    with FlacRaster.open(data) as raster:
        assert [a.extra.get("resampling") for a in raster.header.arrays] == [
            None, "average", "average",
        ]  # fmt: skip
        a, _, c, _, e, f = raster.level_georef(2).affine
    assert (a, c, e, f) == (10 * 141 / 18, 5e5, -10 * 213 / 27, 4e6)


def shuffled_writes(pixels, seed, **options):
    """A file whose tiles were written one by one, in random order, encoded or not."""
    order = random.Random(seed)  # noqa: S311 - a seeded order
    info = ArrayInfo(
        "band_data", str(pixels.dtype), ("band", "y", "x"), pixels.shape, (2, 32, 32)
    )
    sink = MemorySink()
    with FlacRasterWriter(sink, Header((info,)), effort=0, **options) as writer:
        indices = [info.grid.index(k) for k in range(info.grid.n_tiles)]
        order.shuffle(indices)
        buffer = np.empty((2, 32, 32), pixels.dtype)
        for index in indices:
            tile = pixels[info.grid.slices(index)]
            if order.random() < 0.5:
                writer.write_encoded(0, index, writer.encoder.encode(0, index, tile))
                continue
            cut = buffer[tuple(slice(0, n) for n in tile.shape)]
            cut[...] = tile  # the buffer is used again for the next tile
            offset = [s.start for s in info.grid.slices(index)]
            writer.write(cut, offset=offset)
    return sink.value


@pytest.mark.parametrize("method", ["average", "lanczos", "nearest"])
def test_the_order_of_writing_does_not_matter(method):
    pixels = scene("uint16")
    pixels[:, 100:] = 0  # empty tiles
    expected = levels_of(
        encode_array(
            pixels,
            tile_size=(2, 32, 32),
            overviews="auto",
            resampling=method,
            threads=3,
        )
    )
    for seed in range(3):
        data = shuffled_writes(pixels, seed, overviews="auto", resampling=method)
        for found, level in zip(levels_of(data), expected, strict=True):
            np.testing.assert_array_equal(found, level)


def test_written_by_rows_only_rows_of_tiles_are_kept():
    info = ArrayInfo("a", "uint8", ("y", "x"), (1600, 330), (16, 16))
    plan = OverviewPlan.of(Header((info,)), "auto", "cubic")
    pyramid = Pyramid(plan)
    most = 0
    todo = [(0, info.grid.index(k)) for k in range(info.grid.n_tiles)]
    for position, index in todo:
        ready = [(position, index, np.zeros(info.grid.tile_shape(index), "uint8"))]
        while ready:
            found = pyramid.add(*ready.pop())
            most = max(most, pyramid.n_kept)
            ready += [(made.position, made.index, made.make()) for made in found]
    columns = -(-330 // 16)
    assert (
        most <= 5 * 2 * columns
    )  # five rows of tiles, and half of that for each level
    assert pyramid.n_kept == 0
    assert not list(pyramid.finish())


def test_tiles_that_were_never_written_count_as_empty():
    pixels = scene("int16", (1, 200, 100))
    info = ArrayInfo(
        "a", "int16", ("band", "y", "x"), pixels.shape, (1, 32, 32), nodata=(-1,)
    )
    options = {"overviews": "auto", "resampling": "average", "effort": 0}
    sink = MemorySink()
    with FlacRasterWriter(
        sink, Header((info,)), fill_missing=True, **options
    ) as writer:
        writer.write(pixels[:, :64, :64])
    filled = np.full_like(pixels, -1)
    filled[:, :64, :64] = pixels[:, :64, :64]
    expected = encode_array(filled, tile_size=32, nodata=-1, **options)
    for found, level in zip(levels_of(sink.value), levels_of(expected), strict=True):
        np.testing.assert_array_equal(found, level)
    with FlacRaster.open(sink.value) as raster:
        assert (raster.index.tables[1].rows["nbytes"] == 0).sum() > 0
    writer = FlacRasterWriter(MemorySink(), Header((info,)), **options)
    writer.write(pixels[:, :64, :64])
    with pytest.raises(FormatError, match="tiles of array 'a' were not written"):
        writer.close()


def test_the_mask_decides_and_has_levels_of_its_own():
    pixels = scene("uint8", (1, 90, 90))
    mask = np.full((90, 90), 255, "uint8")
    mask[10:50, 30:77] = 0
    arrays = (
        ArrayInfo("a", "uint8", ("band", "y", "x"), (1, 90, 90), (1, 32, 32)),
        ArrayInfo("mask", "uint8", ("y", "x"), (90, 90), (32, 32), role="mask"),
    )
    sink = MemorySink()
    options = {"overviews": (2,), "resampling": "average"}
    with FlacRasterWriter(sink, Header(arrays), **options) as writer:
        writer.write(pixels)
        writer.write(mask, position=1)
    quarter = pixels.reshape(45, 2, 45, 2).astype(float)
    valid = (mask != 0).reshape(45, 2, 45, 2)
    count = valid.sum((1, 3))
    mean = (quarter * valid).sum((1, 3)) / np.maximum(count, 1)
    with FlacRaster.open(sink.value) as raster:
        level = raster.read(level=1)[0]
        made = raster.header.find("mask", 1, "mask")
        found = raster.read_selection((slice(0, 45), slice(0, 45)), position=made)
    np.testing.assert_array_equal(found, np.where(count > 0, 255, 0))
    np.testing.assert_array_equal(level, np.floor(mean + 0.5) * (count > 0))


def test_bands_of_several_nodata_values_and_more_dims():
    pixels = scene("int16", (3, 60, 50)).reshape(1, 3, 60, 50)
    pixels = np.concatenate([pixels, pixels + 20])
    pixels[:, :, 5:33, 8:30] = np.array([-1, -2, 5])[:, None, None]
    info = ArrayInfo(
        "a",
        "int16",
        ("time", "band", "y", "x"),
        pixels.shape,
        (1, 2, 32, 32),
        nodata=(-1, -2, 5),
    )
    sink = MemorySink()
    with FlacRasterWriter(
        sink, Header((info,)), overviews=(2,), resampling="average"
    ) as writer:
        writer.write(pixels)
    with FlacRaster.open(sink.value) as raster:
        found = raster.read(level=1)
    for t in range(2):
        for band, nodata in enumerate((-1, -2, 5)):
            (expected,) = gdal(pixels[t, band][None], "average", nodata)
            np.testing.assert_array_equal(found[t, band], expected[0])


def test_methods_by_array_and_what_is_refused(tmp_path):
    arrays = tuple(
        ArrayInfo(name, "uint8", ("y", "x"), (64, 64), (32, 32)) for name in ("a", "b")
    )
    plan = OverviewPlan.of(Header(arrays), "auto", {"b": "mode"})
    assert [a.extra["resampling"] for a in plan.header.arrays[2:]] == [
        "nearest",
        "mode",
    ]
    with pytest.raises(ValueError, match=r"resampling for \['c'\]"):
        OverviewPlan.of(Header(arrays), "auto", {"c": "mode"})
    with pytest.raises(ValueError, match="the header has overviews already"):
        OverviewPlan.of(plan.header, "auto", "mode")
    for factors in ((4, 2), (1, 2), (2, 2), (2.5,), (0,)):
        with pytest.raises(ValueError, match="expected factors that ascend"):
            OverviewPlan.of(Header(arrays), factors, "mode")
    with pytest.raises(
        UnsupportedDataError, match="too many for 64 rows and 64 columns"
    ):
        OverviewPlan.of(Header(arrays), (64, 128), "mode")
    with pytest.raises(ValueError, match="expected 'auto', 'none', or factors"):
        OverviewPlan.of(Header(arrays), "all", "mode")
    target = tmp_path / "a.flac"
    with pytest.raises(
        UnsupportedDataError, match="'gauss' is not defined for complex"
    ):
        write_array(
            target, np.zeros((9, 9), "complex64"), overviews=(2,), resampling="gauss"
        )
    assert not list(tmp_path.iterdir())


def test_a_raster_without_pixels_has_no_overviews():
    data = encode_array(np.zeros((0, 9), "uint8"), overviews="auto")
    with FlacRaster.open(io.BytesIO(data)) as raster:
        assert raster.header.levels == (0,)
