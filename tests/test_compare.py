"""What `compare_rasters` finds, with NumPy and files made by rasterio as judges."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from flac_xarray import SourceError, convert_to_flac, write_array
from flac_xarray.compare import compare_rasters

PLACED = {"crs": "EPSG:32618", "transform": Affine(10.0, 0, 5e5, 0, -10.0, 4e6)}


def make_tif(path, pixels, mask=None, **profile):
    count, height, width = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", dtype=pixels.dtype.name, count=count,
            height=height, width=width, **{**PLACED, **profile},
        ) as out,
    ):  # fmt: skip
        out.write(pixels)
        if mask is not None:
            out.write_mask(mask)
    return path


def pixels_of(dtype) -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.integers(0, 100, (2, 30, 40)).astype(dtype)


def flac_of(tif):
    target = tif.with_suffix(".flac")
    convert_to_flac(tif, target, tile_size=16)
    return target


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint32", "int64", "float32", "complex64"]
)
def test_a_raster_equals_its_conversion(dtype, tmp_path):
    tif = make_tif(tmp_path / "a.tif", pixels_of(dtype))
    flac = flac_of(tif)
    for a, b in ((tif, tif), (tif, flac), (flac, tif), (flac, flac)):
        result = compare_rasters(a, b)
        assert result.equal
        assert result.equal_pixels
        assert [x.band for x in result.bands] == [1, 2]
        assert {x.n_pixels for x in result.bands} == {1200}


def test_counts_and_largest_difference(tmp_path):
    one = pixels_of("int16")
    two = one.copy()
    two[1, 3, 4:9] += 7
    two[1, 29, 39] -= 300
    a = make_tif(tmp_path / "a.tif", one)
    b = flac_of(make_tif(tmp_path / "b.tif", two))
    first, second = compare_rasters(a, b).bands
    assert (first.equal, first.n_different, first.max_difference) == (True, 0, 0.0)
    assert (second.equal, second.n_different_bits, second.n_different) == (False, 6, 6)
    assert second.max_difference == 300.0


def test_bits_and_values_are_told_apart(tmp_path):
    one = np.zeros((1, 2, 3), "float32")
    two = one.copy()
    one[0, 0] = [np.nan, np.nan, 0.0]
    two[0, 0] = [np.nan, 5.0, -0.0]
    two.view("uint32")[0, 0, 0] ^= 1  # another NaN
    two[0, 1, 0] = np.inf
    a, b = (
        make_tif(tmp_path / f"{name}.tif", pixels)
        for name, pixels in (("a", one), ("b", two))
    )
    (band,) = compare_rasters(a, b).bands
    assert (band.n_different_bits, band.n_different) == (4, 2)
    assert band.max_difference == np.inf


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("int64", -(2**63), 2**63 - 1),
        ("uint64", 0, 2**64 - 1),
        ("int8", -128, 127),
        ("int16", -(2**15), 2**15 - 1),
    ],
)
def test_differences_do_not_wrap(dtype, low, high, tmp_path):
    write_array(tmp_path / "a.flac", np.full((1, 2, 2), low, dtype))
    write_array(tmp_path / "b.flac", np.full((1, 2, 2), high, dtype))
    for a, b in (("a", "b"), ("b", "a")):
        (band,) = compare_rasters(tmp_path / f"{a}.flac", tmp_path / f"{b}.flac").bands
        assert band.max_difference == float(high - low)


def test_dtypes_that_differ_are_compared_by_value(tmp_path):
    a = make_tif(tmp_path / "a.tif", pixels_of("int16"))
    b = make_tif(tmp_path / "b.tif", pixels_of("float32"))
    result = compare_rasters(a, b)
    assert result.differences == {"dtype": ("int16", "float32")}
    assert [x.n_different for x in result.bands] == [0, 0]
    assert not result.equal_pixels


def test_shapes_that_differ_have_no_bands(tmp_path):
    a = make_tif(tmp_path / "a.tif", pixels_of("int16"))
    b = make_tif(tmp_path / "b.tif", pixels_of("int16")[:, 1:])
    result = compare_rasters(a, b)
    assert result.differences == {"shape": ((2, 30, 40), (2, 29, 40))}
    assert result.bands == ()
    assert not result.equal_pixels


def test_metadata(tmp_path):
    moved = Affine(10.0, 0, 5e5, 0, -10.0, 5e6)
    a = make_tif(tmp_path / "a.tif", pixels_of("float32"), nodata=np.nan)
    b = make_tif(
        tmp_path / "b.tif", pixels_of("float32"), nodata=3, crs="EPSG:4326",
        transform=moved,
    )  # fmt: skip
    with rasterio.open(b, "r+") as out:
        out.update_tags(1, ns="MINE", key="value")
        out.update_tags(other="x")
        out.scales = (1.0, 0.5)
    result = compare_rasters(a, b)
    assert result.equal_pixels
    assert not result.equal
    assert set(result.differences) == {
        "nodata", "crs", "transform", "tags", "band 1 tags", "band 2 scale",
    }  # fmt: skip
    assert result.differences["band 2 scale"] == (None, 0.5)
    assert compare_rasters(a, a).equal


def test_masks_are_compared_as_band_0(tmp_path):
    mask = np.full((30, 40), 255, "uint8")
    other = mask.copy()
    other[5, 5:9] = 0
    a = make_tif(tmp_path / "a.tif", pixels_of("uint8"), mask)
    b = flac_of(make_tif(tmp_path / "b.tif", pixels_of("uint8"), other))
    bands = {x.band: x for x in compare_rasters(a, b).bands}
    assert (bands[0].n_different, bands[0].max_difference) == (4, 255.0)
    assert bands[1].equal
    c = make_tif(tmp_path / "c.tif", pixels_of("uint8"))
    assert compare_rasters(a, c).differences == {"mask": (True, False)}


def test_one_crs_in_two_texts(tmp_path):
    wkt = rasterio.crs.CRS.from_epsg(32618).to_wkt()
    write_array(tmp_path / "a.flac", pixels_of("int16"), crs="EPSG:32618")
    write_array(tmp_path / "b.flac", pixels_of("int16"), crs=wkt)
    assert compare_rasters(tmp_path / "a.flac", tmp_path / "b.flac").equal


def test_more_dims_than_a_geotiff(tmp_path):
    pixels = np.arange(2 * 3 * 4 * 5, dtype="int32").reshape(2, 3, 4, 5)
    other = pixels.copy()
    other[1, 2, 3, 4] = 0
    for name, data in (("a", pixels), ("b", other)):
        dims = ("time", "band", "y", "x")
        write_array(tmp_path / f"{name}.flac", data, dims=dims)
    bands = compare_rasters(tmp_path / "a.flac", tmp_path / "b.flac").bands
    assert [x.n_different for x in bands] == [0, 0, 0, 0, 0, 1]


def test_blocks_and_progress(tmp_path, monkeypatch):
    monkeypatch.setattr("flac_xarray.compare.BLOCK_NBYTES", 700)
    a = make_tif(tmp_path / "a.tif", pixels_of("int16"))
    seen: list[int] = []
    result = compare_rasters(flac_of(a), a, progress=seen.append)
    assert result.equal
    assert len(seen) > 2
    assert sum(seen) == pixels_of("int16").nbytes


def test_what_cannot_be_read(tmp_path):
    a = make_tif(tmp_path / "a.tif", pixels_of("int16"))
    (tmp_path / "b.txt").write_text("no raster at all")
    for other in ("none.tif", "b.txt"):
        with pytest.raises(SourceError, match=other):
            compare_rasters(a, tmp_path / other)
