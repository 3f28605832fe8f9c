"""Levels of overviews, with GDAL's own overviews as the truth."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from flac_xarray.errors import UnsupportedDataError
from flac_xarray.resampling import METHODS, LevelRule, check_method, valid_pixels

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)

SIZES = [(64, 96), (61, 97), (65, 64), (64, 33), (1, 7), (3, 1)]
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]
FLOATS = ["float32", "float64"]
SUMS_OF_FLOATS = sorted(set(METHODS) - {"nearest", "average", "mode"})


def gdal(pixels, method, nodata=None, factors=(2,), **profile):
    """GDAL's overviews of pixels (band, row, col)."""
    count, height, width = pixels.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=count,
            dtype=pixels.dtype, nodata=nodata, **profile,
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
        with rasterio.open(memory.name, "r+") as dataset:
            dataset.build_overviews(list(factors), Resampling[method])
        levels = []
        for k in range(len(factors)):
            with rasterio.open(memory.name, overview_level=k) as dataset:
                levels.append(dataset.read())
    return levels


def ours(pixels, method, nodata=None, part=None):
    shape = pixels.shape[-2:]
    target = tuple(-(-n // 2) for n in shape)
    rule = LevelRule(method, str(pixels.dtype), shape, target)
    part = part or tuple(slice(0, n) for n in target)
    rows, cols = rule.needs(part)
    needed = pixels[:, rows, cols]
    valid = valid_pixels(needed, nodata, str(pixels.dtype))
    corner = rows.start, cols.start
    return rule.make(needed, corner, part, valid=valid, nodata=nodata)


def scene(dtype, size, method, nodata, seed=0):
    rng = np.random.default_rng(seed)
    shape = (2, *size)
    kind = np.dtype(dtype)
    if kind.kind in "fc":
        pixels = rng.normal(size=shape) * 100
        if kind.kind == "c":
            pixels = pixels + 1j * rng.normal(size=shape)
    else:
        limits = np.iinfo(kind)
        low, high = max(limits.min, -2000), min(limits.max, 3000)
        pixels = rng.integers(low, high, shape, endpoint=True)
    if method == "mode":  # few values, so that some are frequent
        pixels = np.round(pixels / 80) if kind.kind == "c" else pixels // 800 * 100
    pixels = pixels.astype(kind)
    if nodata is not None:
        pixels[rng.random(shape) < 0.3] = nodata
        pixels[:, : size[0] // 3, : size[1] // 3] = nodata  # a void larger than kernels
    return pixels


def cases(dtypes, nodata=(None, 5)):
    return [(d, s, n) for d in dtypes for s in SIZES for n in nodata]


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"rms"}))
def test_integers_are_gdal_s(method):
    differ = 0
    for dtype, size, nodata in cases(INTEGERS):
        pixels = scene(dtype, size, method, nodata)
        expected = gdal(pixels, method, nodata)[0]
        found = ours(pixels, method, nodata)
        assert found.dtype == expected.dtype
        if dtype in ("uint32", "int32") and method not in (
            "nearest",
            "average",
            "mode",
        ):
            # GDAL adds doubles four at a time, we one after another: halves may tip.
            apart = np.abs(found.astype("int64") - expected)
            assert apart.max() <= 1
            differ += (apart > 0).sum()
        else:
            np.testing.assert_array_equal(found, expected, f"{dtype} {size} {nodata}")
    assert differ <= 20


def test_rms_of_integers_is_gdal_s():
    for dtype, size, nodata in cases(INTEGERS):
        pixels = scene(dtype, size, "rms", nodata)
        expected = gdal(pixels, "rms", nodata)[0]
        found = ours(pixels, "rms", nodata)
        if dtype in ("int8", "int16") and nodata is None:
            # GDAL squares quotients of float32 here; now and then a half tips.
            apart = np.abs(found.astype(int) - expected)
            assert apart.max() <= 1
            assert (apart > 0).mean() < 1e-3
        else:
            np.testing.assert_array_equal(found, expected, f"{dtype} {size} {nodata}")


@pytest.mark.parametrize("method", ["nearest", "average", "mode"])
def test_floats_are_gdal_s(method):
    for dtype, size, nodata in cases(FLOATS, (None, 5, np.nan)):
        if nodata is not None and np.isnan(nodata) and method == "mode":
            continue  # GDAL makes zeros of voids: see below
        pixels = scene(dtype, size, method, nodata)
        expected = gdal(pixels, method, nodata)[0]
        np.testing.assert_array_equal(
            ours(pixels, method, nodata), expected, f"{dtype} {size} {nodata}"
        )


@pytest.mark.parametrize("method", SUMS_OF_FLOATS)
def test_sums_of_floats_are_gdal_s_but_for_the_last_bits(method):
    for dtype, size, nodata in cases(FLOATS):
        pixels = scene(dtype, size, method, nodata)
        expected = gdal(pixels, method, nodata)[0]
        found = ours(pixels, method, nodata)
        assert ((found == nodata) == (expected == nodata)).all()
        ulps = 4 * np.finfo(dtype).eps * np.abs(pixels[pixels != nodata]).max()
        tolerance = ulps if dtype == "float32" else 1e3 * ulps
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        if dtype == "float32" and method != "rms":
            assert (found != expected).mean() < 1e-3


@pytest.mark.parametrize("method", ["nearest", "average", "mode", "rms"])
@pytest.mark.parametrize("size", SIZES)
def test_complex_is_gdal_s(method, size):
    pixels = scene("complex64", size, method, None)
    np.testing.assert_array_equal(ours(pixels, method), gdal(pixels, method)[0])


def test_complex_integers_are_gdal_s(tmp_path):
    rng = np.random.default_rng(3)
    parts = rng.integers(-300, 300, (2, 1, 31, 44))
    pixels = (parts[0] + 1j * parts[1]).astype("complex64")
    for method in ("nearest", "average", "rms"):
        path = tmp_path / f"{method}.tif"
        profile = {"width": 44, "height": 31, "count": 1, "dtype": "complex_int16"}
        with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
            dataset.write(pixels)
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2], Resampling[method])
        with rasterio.open(path, overview_level=0) as dataset:
            expected = dataset.read()
        rule = LevelRule(method, "complex_int16", (31, 44), (16, 22))
        found = rule.make(pixels, (0, 0), (slice(0, 16), slice(0, 22)))
        np.testing.assert_array_equal(found, expected)


def test_no_nan_where_something_is_valid():
    """GDAL lets NaN nodata run through kernels, and makes its voids 0 by mode."""
    pixels = np.full((1, 4, 6), np.nan, "float32")
    pixels[0, 0, 0], pixels[0, 1, 4:] = 3, 2
    nan = np.nan
    np.testing.assert_array_equal(
        ours(pixels, "mode", nan), [[[3, nan, 2], [nan, nan, nan]]]
    )
    np.testing.assert_array_equal(
        ours(pixels, "bilinear", nan), [[[3, 2, 2], [nan, 2, 2]]]
    )


def test_a_mean_that_equals_nodata_stays_valid():
    pixels = np.array([[[4, 6], [9, 9]]], "uint8")
    assert ours(pixels[:, :1], "average", nodata=5).tolist() == [[[6]]]
    assert ours(np.array([[[254, 254]]], "uint8"), "average", 254).tolist() == [[[254]]]
    high = np.array([[[255, 253]]], "uint8")
    assert ours(high, "average", 254).tolist() == [[[255]]]


def test_booleans_are_averaged_as_bytes_and_stay_booleans():
    pixels = np.array([[[1, 0, 0, 0], [0, 1, 0, 1]]], bool)
    for method in METHODS:
        found = ours(pixels, method)
        assert found.dtype == bool
    assert ours(pixels, "average").tolist() == [[[True, False]]]


def test_infinities_do_not_reach_beyond_their_window():
    pixels = np.zeros((1, 5, 5), "float64")
    pixels[0, 4, 4] = np.inf
    for method in ("average", "rms", "gauss"):
        found = ours(pixels, method)
        assert np.isinf(found[0, 2, 2])
        assert found[0, 0, 0] == 0


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(METHODS),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([None, 5]),
    st.data(),
)
def test_any_part_is_a_part_of_the_whole(method, size, nodata, data):
    pixels = scene("int16", size, method, nodata)
    whole = ours(pixels, method, nodata)
    part = []
    for n in whole.shape[-2:]:
        start = data.draw(st.integers(0, n - 1))
        part.append(slice(start, data.draw(st.integers(start + 1, n))))
    found = ours(pixels, method, nodata, tuple(part))
    np.testing.assert_array_equal(found, whole[:, part[0], part[1]])


def test_methods_are_checked():
    with pytest.raises(ValueError, match="'nearset': expected one of nearest, average"):
        check_method("nearset", "uint8")
    with pytest.raises(
        UnsupportedDataError, match="'cubic' is not defined for complex"
    ):
        check_method("cubic", "complex64")
