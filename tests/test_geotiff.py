"""GeoTIFF to FLAC and back, with rasterio as the judge of what a raster is."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from flac_xarray import (
    ArrayInfo,
    FlacRaster,
    FlacRasterWriter,
    Header,
    SourceError,
    UnsupportedDataError,
    Window,
    WindowError,
    convert_to_flac,
    convert_to_geotiff,
    encode_array,
    scenes,
    write_array,
)
from flac_xarray.colors import pack_colors
from flac_xarray.georef import Gcp, Georef
from flac_xarray.geotiff import header_from_dataset
from flac_xarray.geotiff.describe import crs_text
from flac_xarray.geotiff.gdal import check_complete
from tests.malformed import with_array

pytestmark = [
    # Rasters without georeference are part of the matrix.
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    # rasterio's own use of affine, where transforms are rotated, and of NumPy.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning"),
]

REAL_DATA = Path(
    os.environ.get(
        "FLAC_XARRAY_TEST_DATA", Path(__file__).resolve().parents[2] / "shared/data"
    )
)
REAL_TIFS = sorted(path.name for path in REAL_DATA.glob("*.tif"))
QUICK = {"effort": 0, "bands_per_tile": 8}

COG_LAYOUT = "GDAL copies overviews that are given in the layout of a COG"
NEVER_LOSSY = "what JPEG decoded to is kept; encoding it again would lose bits"
NO_COLOURS = "TIFF has colour tables for uint8 and uint16 only, so GDAL refuses int8"
CRS_DIGITS = "the CRS is equal; GDAL writes user-defined GeoTIFF keys with fewer words"

EXCEPTIONS = {
    "meta-goes-geos.tif": {
        "profile compress": NEVER_LOSSY,
        "compression": NEVER_LOSSY,
        "profile photometric": NEVER_LOSSY,
        "tags 0 IMAGE_STRUCTURE COMPRESSION": NEVER_LOSSY,
        "tags 0 IMAGE_STRUCTURE JPEGTABLESMODE": NEVER_LOSSY,
        "tags 0 IMAGE_STRUCTURE JPEG_QUALITY": NEVER_LOSSY,
        "tags 0 IMAGE_STRUCTURE PREDICTOR": NEVER_LOSSY,
        "tags 0 IMAGE_STRUCTURE SOURCE_COLOR_SPACE": NEVER_LOSSY,
    },
    "lc-cmap-dateline-int8.tif": {"colorinterp": NO_COLOURS, "colormap 1": NO_COLOURS},
    "dem-lidar-TM1_564_146-f32.tif": {"wkt": CRS_DIGITS},
    "meta-esri-wkt.tif": {"wkt": CRS_DIGITS},
}
"""What differs after the round trip and why; docs/geotiff.md says the same."""


def reported(dataset) -> dict[str, object]:
    """Everything that rasterio reports of a dataset, pixels and file name aside."""
    out: dict[str, object] = {f"profile {k}": v for k, v in dataset.profile.items()}
    for name in (
        "dtypes", "descriptions", "scales", "offsets", "units", "colorinterp",
        "mask_flag_enums", "nodatavals", "shape", "count", "crs", "transform",
        "bounds", "block_shapes", "interleaving", "compression", "subdatasets",
    ):  # fmt: skip
        out[name] = getattr(dataset, name)
    out["wkt"] = dataset.crs.to_wkt() if dataset.crs else None
    for bidx in range(dataset.count + 1):
        # GDAL makes these up, with the path in them.
        spaces = {"", *dataset.tag_namespaces(bidx)} - {"DERIVED_SUBDATASETS"}
        for ns in spaces:
            for key, value in dataset.tags(bidx, ns=ns or None).items():
                out[f"tags {bidx} {ns} {key}"] = value
    for bidx in dataset.indexes:
        try:
            out[f"colormap {bidx}"] = dataset.colormap(bidx)
        except ValueError:  # rasterio's word for none
            continue
    points, crs = dataset.gcps
    out["gcps"] = [(p.row, p.col, p.x, p.y, p.z, p.id, p.info) for p in points]
    out["gcps crs"] = crs
    out["rpcs"] = dataset.rpcs.to_dict() if dataset.rpcs else None
    return out


def differences(a, b) -> set[str]:
    """Names of what is reported differently; NaN is equal to NaN."""
    one, two = reported(a), reported(b)
    return {
        name
        for name in one.keys() | two.keys()
        if one.get(name) != two.get(name) and repr(one.get(name)) != repr(two.get(name))
    }


def assert_same_bits(a, b) -> None:
    for bidx in a.indexes:
        np.testing.assert_array_equal(bits(a.read([bidx])), bits(b.read([bidx])))
    np.testing.assert_array_equal(a.dataset_mask(), b.dataset_mask())


def bits(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels).view(np.uint8)


def round_trip(source, folder, **options) -> Path:
    flac, back = folder / "a.flac", folder / "back.tif"
    convert_to_flac(source, flac, **options)
    with FlacRaster.open(flac) as raster:
        convert_to_geotiff(raster, back)
    assert sorted(p.name for p in folder.glob("*back*")) == ["back.tif"]
    return back


@pytest.mark.real
@pytest.mark.parametrize("name", REAL_TIFS)
def test_real_rasters_come_back(name, real_data, tmp_path):
    with warnings.catch_warnings():
        if name == "lc-cmap-dateline-int8.tif":
            warnings.filterwarnings("ignore", "band 1 .int8. loses its colour table")
        back = round_trip(real_data / name, tmp_path, **QUICK)
    with rasterio.open(real_data / name) as a, rasterio.open(back) as b:
        assert_same_bits(a, b)
        expected = dict(EXCEPTIONS.get(name, {}))
        if a.overviews(1) and "LAYOUT" not in a.tags(ns="IMAGE_STRUCTURE"):
            expected["tags 0 IMAGE_STRUCTURE LAYOUT"] = COG_LAYOUT
        found = differences(a, b)
        assert found - expected.keys() == set()
        assert [a.overviews(k) for k in a.indexes] == [
            b.overviews(k) for k in b.indexes
        ]
        n_levels = len(a.overviews(1))
        assert EXCEPTIONS.get(name, {}).keys() <= found, "an exception that is none"
    for k in range(n_levels):
        with (
            rasterio.open(real_data / name, overview_level=k) as a,
            rasterio.open(back, overview_level=k) as b,
        ):
            assert_same_bits(a, b)


# small scenes, each of which shows one thing

PLACED = {"crs": "EPSG:32618", "transform": Affine(10.0, 0, 5e5, 0, -10.0, 4e6)}
ROTATED = Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(10, -10)
SHEARED = Affine(10.0, 1.5, 5e5, -0.25, -9.0, 4e6)
LOCAL = 'LOCAL_CS["mine",UNIT["metre",1]]'
CUSTOM = "+proj=laea +lat_0=45.5 +lon_0=-100.25 +x_0=7 +datum=WGS84 +units=m"
VOID = np.where(np.indices((20, 30)).sum(0) % 4, 255, 0).astype("uint8")
GCPS = [
    GroundControlPoint(0.5, 0, 10.0, 50.0, 7.0),
    GroundControlPoint(20, 0, 10.0, 49.0, 8.0),
    GroundControlPoint(0, 30, 11.0, 50.0, 9.5),
]
COEFFS = [1.0, -0.25, 1e-7, *(float(k) / 3 for k in range(17))]
RPCS = RPC(
    height_off=100.0, height_scale=500.0, lat_off=45.0, lat_scale=0.1, line_off=10.0,
    line_scale=10.5, long_off=-5.5, long_scale=0.1, samp_off=15.0, samp_scale=15.0,
    line_num_coeff=COEFFS, line_den_coeff=COEFFS, samp_num_coeff=COEFFS,
    samp_den_coeff=COEFFS, err_bias=1.5, err_rand=0.5,
)  # fmt: skip
XMP = "<?xpacket begin='x'?><x:xmpmeta a='b'>é</x:xmpmeta>"


def scene(dtype="uint8", count=2, height=20, width=30) -> np.ndarray:
    """Seeded pixels that use the whole range; floats with NaN payloads and -0.0."""
    rng = np.random.default_rng(5)
    kind = np.dtype("complex64" if dtype == "complex_int16" else dtype)
    if dtype == "complex_int16":
        parts = rng.integers(-(2**15), 2**15, (2, count, height, width))
        return (parts[0] + 1j * parts[1]).astype(kind)
    raw = rng.integers(0, 256, (count, height, width * kind.itemsize), "uint8")
    return raw.view(kind)


def make_tif(path, pixels, **profile) -> Path:
    """Write a GeoTIFF; keys that begin with _ are calls after opening."""
    after = {k[1:]: profile.pop(k) for k in list(profile) if k.startswith("_")}
    count, height, width = pixels.shape
    profile = {"dtype": pixels.dtype.name, "driver": "GTiff", **profile}
    sizes = {"count": count, "height": height, "width": width}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=after.pop("internal", True)),
        rasterio.open(path, "w", **sizes, **profile) as out,
    ):
        mask = after.pop("mask", None)
        for name, value in after.items():
            target = getattr(type(out), name, None)
            if isinstance(value, list) and callable(target):
                for args, kwargs in value:
                    getattr(out, name)(*args, **kwargs)
            else:
                setattr(out, name, value)
        out.write(pixels)
        if mask is not None:
            out.write_mask(mask)
    return path


def tagged(*args, **kwargs):
    return (args, kwargs)


DTYPES = [
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float32", "float64", "complex_int16", "complex64", "complex128",
]  # fmt: skip
COLOURS = {k: (k, 255 - k, k // 2, 255) for k in range(200)}
SCENES = {
    **{dtype: (scene(dtype), {**PLACED, "dtype": dtype}) for dtype in DTYPES},
    "1x1": (scene(height=1, width=1), PLACED),
    "1xN": (scene("int16", height=1, width=700), PLACED),
    "Nx1": (scene("int16", height=700, width=1), PLACED),
    "43 bands": (scene(count=43), PLACED),
    "1 band": (scene(count=1), PLACED),
    "3 gray bands": (scene(count=3), {**PLACED, "photometric": "MINISBLACK"}),
    "rgb": (scene(count=3), {**PLACED, "photometric": "RGB"}),
    "rgba": (scene(count=4), {**PLACED, "photometric": "RGB", "alpha": "YES"}),
    "rgb and one": (scene(count=4), {**PLACED, "photometric": "RGB", "alpha": "NO"}),
    "cmyk": (scene(count=4), {**PLACED, "photometric": "CMYK"}),
    "white is zero": (scene(count=1), {**PLACED, "photometric": "MINISWHITE"}),
    "gray alpha": (
        scene("uint16"),
        {**PLACED, "_colorinterp": [ColorInterp.gray, ColorInterp.alpha]},
    ),
    "odd colours": (
        scene(count=3),
        {
            **PLACED,
            "photometric": "MINISBLACK",
            "_colorinterp": [
                ColorInterp.blue,
                ColorInterp.undefined,
                ColorInterp.saturation,
            ],
        },
    ),
    "colour table": (
        scene(count=1),
        {**PLACED, "photometric": "PALETTE", "_write_colormap": [tagged(1, COLOURS)]},
    ),
    "colour table 16": (
        scene("uint16", count=1),
        {**PLACED, "photometric": "PALETTE", "_write_colormap": [tagged(1, COLOURS)]},
    ),
    "nodata": (scene("int16"), {**PLACED, "nodata": -9999}),
    "nodata 0": (scene("uint8") // 100, {**PLACED, "nodata": 0}),
    "nodata half": (scene("int16"), {**PLACED, "nodata": 0.5}),
    "nodata nan": (scene("float32"), {**PLACED, "nodata": np.nan}),
    "nodata inf": (scene("float64"), {**PLACED, "nodata": -np.inf}),
    "nodata tenth": (scene("float32"), {**PLACED, "nodata": 0.1}),
    "nodata lowest": (
        scene("float32"),
        {**PLACED, "nodata": float(np.finfo("float32").min)},
    ),
    "nodata int64": (scene("int64"), {**PLACED, "nodata": -(2**53)}),
    "mask": (scene(count=3), {**PLACED, "_mask": VOID}),
    "mask beside": (scene(), {**PLACED, "_mask": VOID, "_internal": False}),
    "mask and nodata": (scene(), {**PLACED, "_mask": VOID, "nodata": 3}),
    "mask 16": (scene("float32"), {**PLACED, "_mask": VOID, "compress": "lzw"}),
    "rotated": (scene(), {"crs": "EPSG:32618", "transform": ROTATED}),
    "sheared": (scene(), {"crs": "EPSG:32618", "transform": SHEARED}),
    "south up": (
        scene(),
        {"crs": "EPSG:4326", "transform": Affine(0.1, 0, -5, 0, 0.1, 50)},
    ),
    "no crs": (scene(), {"transform": PLACED["transform"]}),
    "crs alone": (scene(), {"crs": "EPSG:4326"}),
    "nowhere": (scene(), {}),
    "custom crs": (scene(), {**PLACED, "crs": CUSTOM}),
    "local crs": (scene(), {**PLACED, "crs": CRS.from_wkt(LOCAL)}),
    "compound crs": (scene(), {**PLACED, "crs": "EPSG:32618+5773"}),
    "gcps": (scene(), {"_gcps": (GCPS, CRS.from_epsg(4326))}),
    "gcps without crs": (scene(), {"_gcps": (GCPS, CRS())}),
    "rpcs": (scene(), {"_rpcs": RPCS}),
    "rpcs and transform": (scene(), {**PLACED, "_rpcs": RPCS}),
    "names": (
        scene(),
        {
            **PLACED,
            "_set_band_description": [tagged(1, "red"), tagged(2, "über <b> & c")],
            "_units": ("m", ""),
            "_scales": (0.1, 1e-4),
            "_offsets": (0.0, -273.15),
        },
    ),
    "tags": (
        scene(),
        {
            **PLACED,
            "_update_tags": [
                tagged(a="1", empty="", equals="x=y", text=' "q" <é>\n second line '),
                tagged(ns="MINE", key="value"),
                tagged(ns="xml:XMP", **dict([XMP.split("=", 1)])),
                tagged(1, STATISTICS_MEAN="3.25", other="x"),
                tagged(2, ns="THEIRS", key="b2"),
                tagged(TIFFTAG_SOFTWARE="ours", TIFFTAG_XRESOLUTION="72.5"),
            ],
        },
    ),
    "point": (scene(), {**PLACED, "_update_tags": [tagged(AREA_OR_POINT="Point")]}),
    "strips": (scene(), {**PLACED, "blockysize": 7}),
    "tiles": (
        scene(height=70, width=90),
        {**PLACED, "tiled": True, "blockxsize": 32, "blockysize": 48},
    ),
    "one large tile": (
        scene(),
        {**PLACED, "tiled": True, "blockxsize": 256, "blockysize": 128},
    ),
    "band interleaved": (scene(), {**PLACED, "interleave": "band"}),
    "pixel interleaved": (scene("int16"), {**PLACED, "interleave": "pixel"}),
    "deflate": (scene("int16"), {**PLACED, "compress": "deflate", "predictor": 2}),
    "lzw 3": (scene("float32"), {**PLACED, "compress": "lzw", "predictor": 3}),
    "zstd": (scene("int16"), {**PLACED, "compress": "zstd"}),
    "packbits": (scene("int16"), {**PLACED, "compress": "packbits"}),
    "12 bits": (scene("uint16") >> 4, {**PLACED, "nbits": 12}),
    "1 bit": (scene(count=1) >> 7, {**PLACED, "nbits": 1, "compress": "ccittfax4"}),
    "bigtiff": (scene(), {**PLACED, "bigtiff": "YES"}),
}


# GDAL hands out CMYK files as RGBA: that is what comes back.
CMYK_AS_RGBA = {"profile photometric", "tags 0 IMAGE_STRUCTURE SOURCE_COLOR_SPACE"}


@pytest.mark.parametrize("name", SCENES)
def test_scenes_come_back(name, tmp_path):
    pixels, profile = SCENES[name]
    source = make_tif(tmp_path / "a.tif", pixels, **profile)
    back = round_trip(source, tmp_path, tile_size=16)
    with rasterio.open(source) as a, rasterio.open(back) as b:
        assert_same_bits(a, b)
        assert differences(a, b) == (CMYK_AS_RGBA if name == "cmyk" else set())


@pytest.mark.parametrize("bands_per_tile", [1, 3])
@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_bands_of_a_tile(bands_per_tile, interleave, tmp_path):
    source = make_tif(tmp_path / "a.tif", scene("int16", count=7), **PLACED)
    options = {"bands_per_tile": bands_per_tile, "interleave": interleave}
    back = round_trip(source, tmp_path, tile_size=(8, 16), **options)
    with rasterio.open(source) as a, rasterio.open(back) as b:
        assert_same_bits(a, b)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        assert raster.array().tile == (bands_per_tile, 8, 16)


def test_same_input_gives_the_same_bytes(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene("int16"), **PLACED)
    for name, threads in (("b.flac", 1), ("c.flac", 3)):
        convert_to_flac(source, tmp_path / name, tile_size=8, threads=threads)
    assert (tmp_path / "b.flac").read_bytes() == (tmp_path / "c.flac").read_bytes()


# what the header holds


def test_header_holds_only_what_is_not_default(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene("int16"), **PLACED, nodata=-1)
    with rasterio.open(source) as dataset:
        header = header_from_dataset(dataset, tile_size=16)
    (info,) = header.arrays
    assert (info.name, info.dtype, info.dims) == (
        "band_data", "int16", ("band", "y", "x"),
    )  # fmt: skip
    assert (info.shape, info.tile, info.nodata) == ((2, 20, 30), (1, 16, 16), (-1,))
    assert info.bands == ({}, {})
    assert header.georef == Georef("EPSG:32618", tuple(PLACED["transform"])[:6])
    assert header.tags == {"": {"AREA_OR_POINT": "Area"}}
    assert header.extra["gdal"]["driver"] == "GTiff"
    assert str(tmp_path) not in repr(header)


CRS_TEXTS = {
    "code": (CRS.from_epsg(4326), "EPSG:4326"),
    "none": (CRS(), None),
    "custom": (CRS.from_string(CUSTOM), None),
    "local": (CRS.from_wkt(LOCAL), None),
    "esri": (CRS.from_authority("ESRI", "102039"), "ESRI:102039"),
}


@pytest.mark.parametrize("name", CRS_TEXTS)
def test_crs_text_gives_an_equal_crs_of_equal_text(name):
    crs, expected = CRS_TEXTS[name]
    text = crs_text(crs)
    if expected or not crs:
        assert text == expected
    if crs:
        assert CRS.from_user_input(text) == crs
        assert CRS.from_user_input(text).to_wkt() == crs.to_wkt()


# windows, bands, levels


@pytest.mark.parametrize(
    "window",
    [Window(0, 0, 20, 30), Window(3, 5, 7, 9), Window(19, 29, 1, 1)],
    ids=["all", "inside", "corner"],
)
def test_a_window_is_the_crop(window, tmp_path):
    source = make_tif(
        tmp_path / "a.tif",
        scene("int16", count=3),
        crs="EPSG:32618",
        transform=ROTATED,
        _mask=VOID,
        _update_tags=[tagged(1, STATISTICS_MEAN="1")],
        _rpcs=RPCS,
    )
    convert_to_flac(source, tmp_path / "a.flac", tile_size=8)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        convert_to_geotiff(raster, tmp_path / "b.tif", window=window, bands=[2, 0])
    at = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "b.tif") as b:
        np.testing.assert_array_equal(b.read(), a.read([3, 1], window=at))
        np.testing.assert_array_equal(b.dataset_mask(), a.dataset_mask(window=at))
        assert b.transform.almost_equals(a.window_transform(at), 1e-6)
        assert ("STATISTICS_MEAN" in b.tags(2)) == (window.height == 20)
        assert b.rpcs.line_off == RPCS.line_off - window.row_off
        assert b.rpcs.samp_off == RPCS.samp_off - window.col_off
        assert b.rpcs.line_num_coeff == a.rpcs.line_num_coeff


def test_gcps_move_with_the_window(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene(), _gcps=(GCPS, CRS.from_epsg(4326)))
    convert_to_flac(source, tmp_path / "a.flac")
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        convert_to_geotiff(raster, tmp_path / "b.tif", window=Window(4, 6, 5, 5))
    with rasterio.open(tmp_path / "b.tif") as b:
        found = [(p.row, p.col, p.x, p.y, p.z) for p in b.gcps[0]]
    assert found == [(p.row - 4, p.col - 6, p.x, p.y, p.z) for p in GCPS]


def test_a_level_has_larger_pixels(tmp_path):
    base = ArrayInfo("a", "uint8", ("band", "y", "x"), (1, 8, 6), (1, 4, 4))
    over = ArrayInfo("a", "uint8", ("band", "y", "x"), (1, 4, 3), (1, 4, 4), level=1)
    georef = Georef("EPSG:32618", (10.0, 0.0, 5e5, 0.0, -10.0, 4e6))
    with FlacRasterWriter.create(
        tmp_path / "a.flac", Header((base, over), georef), fill_missing=True
    ) as writer:
        writer.write(scene(count=1, height=8, width=6), position=0)
        writer.write(np.full((1, 4, 3), 9, "uint8"), position=1)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        convert_to_geotiff(raster, tmp_path / "b.tif", level=1)
    with rasterio.open(tmp_path / "b.tif") as b:
        assert (b.read() == 9).all()
        assert b.transform == Affine(20.0, 0, 5e5, 0, -20.0, 4e6)


def test_blocks_smaller_than_the_raster(tmp_path, monkeypatch):
    # Every path that cuts the raster into pieces, on a raster small enough to judge.
    for module in ("to_flac", "plan"):
        monkeypatch.setattr(f"flac_xarray.geotiff.{module}.BLOCK_NBYTES", 600)
    source = make_tif(tmp_path / "a.tif", scene("int16", count=3), **PLACED, _mask=VOID)
    back = round_trip(source, tmp_path, tile_size=8)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        window = Window(5, 3, 14, 25)
        convert_to_geotiff(raster, tmp_path / "crop.tif", window=window)
    with (
        rasterio.open(source) as a,
        rasterio.open(back) as b,
        rasterio.open(tmp_path / "crop.tif") as crop,
    ):
        assert_same_bits(a, b)
        np.testing.assert_array_equal(crop.read(), a.read()[:, 5:19, 3:28])
        np.testing.assert_array_equal(crop.dataset_mask(), VOID[5:19, 3:28])


# arrays that came from elsewhere


@pytest.mark.parametrize(
    ("dtype", "written", "nbits"),
    [("bool", "uint8", "1"), ("float16", "float32", "16")],
)
def test_dtypes_that_gdal_lacks_are_widened(dtype, written, nbits, tmp_path):
    pixels = (scene("int8") > 0) if dtype == "bool" else scene("int16").astype("f2")
    write_array(tmp_path / "a.flac", pixels)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        convert_to_geotiff(raster, tmp_path / "b.tif")
    # rasterio 1.5, on GDAL 3.11 and later, gives such floats their own dtype.
    knows = dtype in rasterio.dtypes.dtype_rev
    with rasterio.open(tmp_path / "b.tif") as b:
        assert b.dtypes == (dtype if knows else written,) * 2
        np.testing.assert_array_equal(b.read().astype(dtype), pixels)
        if not knows:
            assert b.tags(1, ns="IMAGE_STRUCTURE") == {"NBITS": nbits}


def test_rows_and_columns_alone_are_one_band(tmp_path):
    write_array(tmp_path / "a.flac", scene("int16")[0])
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        convert_to_geotiff(raster, tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as b:
        np.testing.assert_array_equal(b.read(1), scene("int16")[0])
        assert b.profile["compress"] == "deflate"


def test_options_go_before_the_original_s(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene("int16"), **PLACED, compress="lzw")
    convert_to_flac(source, tmp_path / "a.flac")
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        convert_to_geotiff(raster, tmp_path / "b.tif", COMPRESS="zstd", threads=2)
        convert_to_geotiff(raster, tmp_path / "c.tif", driver="COG")
    with rasterio.open(source) as a, rasterio.open(tmp_path / "b.tif") as b:
        assert b.profile["compress"] == "zstd"
        assert_same_bits(a, b)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "c.tif") as c:
        assert c.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert_same_bits(a, c)


# other sources

VRT = '<VRTDataset rasterXSize="30" rasterYSize="20">{bands}</VRTDataset>'
VRT_BAND = (
    '<VRTRasterBand dataType="{dtype}" band="{band}">'
    "<NoDataValue>{nodata}</NoDataValue></VRTRasterBand>"
)


def make_vrt(path, *bands) -> Path:
    text = "".join(
        VRT_BAND.format(dtype=dtype, band=k, nodata=nodata)
        for k, (dtype, nodata) in enumerate(bands, 1)
    )
    path.write_text(VRT.format(bands=text))
    return path


def test_a_vrt_with_nodata_of_each_band(tmp_path):
    source = make_vrt(tmp_path / "a.vrt", ("Int16", -1), ("Int16", 7), ("Int16", 7))
    convert_to_flac(source, tmp_path / "a.flac")
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        assert raster.array().nodata == (-1, 7, 7)
        assert (raster.read()[1:] == 7).all()
        with pytest.raises(UnsupportedDataError, match="several nodata"):
            convert_to_geotiff(raster, tmp_path / "b.tif")
        convert_to_geotiff(raster, tmp_path / "b.tif", bands=[1, 2])
    with rasterio.open(tmp_path / "b.tif") as b:
        assert b.nodatavals == (7.0, 7.0)


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("Byte", -9999), ("UInt16", 70000), ("Float32", 1e300)]
)
def test_nodata_that_no_pixel_can_have(dtype, nodata, tmp_path):
    vrt = make_vrt(tmp_path / "a.vrt", (dtype, nodata))
    source = tmp_path / "a.tif"
    rasterio.shutil.copy(vrt, source, driver="GTiff")
    back = round_trip(source, tmp_path)
    with rasterio.open(source) as a, rasterio.open(back) as b:
        assert_same_bits(a, b)
        assert differences(a, b) == set()


def test_nodata_that_rasterio_has_no_number_for_leaves_its_mask(tmp_path):
    source = make_vrt(tmp_path / "a.vrt", ("UInt64", 2**64 - 1))
    convert_to_flac(source, tmp_path / "a.flac")
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        mask = raster.header.find(role="mask")
        assert (
            raster.read_selection(
                tuple(slice(0, n) for n in raster.header.arrays[mask].shape),
                position=mask,
            ).max()
            == 0
        )
        convert_to_geotiff(raster, tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as b:
        assert b.dataset_mask().max() == 0


def test_paths_will_do_both_ways(tmp_path):
    scenes.multispectral_scene(90, 70).write_geotiff(tmp_path / "a.tif")
    convert_to_flac(tmp_path / "a.tif", tmp_path / "a.flac")
    convert_to_geotiff(str(tmp_path / "a.flac"), tmp_path / "b.tif", bands=[1])
    with (
        rasterio.open(tmp_path / "a.tif") as original,
        rasterio.open(tmp_path / "b.tif") as back,
    ):
        np.testing.assert_array_equal(back.read(1), original.read(2))
        assert back.descriptions == original.descriptions[1:2]


def test_an_open_dataset_stays_open(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene(), **PLACED)
    with rasterio.open(source) as dataset:
        convert_to_flac(dataset, tmp_path / "a.flac")
        np.testing.assert_array_equal(dataset.read(), scene())


@pytest.mark.real
def test_netcdf(real_data, tmp_path):
    lists = r"subdatasets.*\n.*eraint.*:"
    with pytest.raises(UnsupportedDataError, match=lists) as info:
        convert_to_flac(real_data / "clim-eraint-uvz.nc", tmp_path / "a.flac")
    assert list(tmp_path.iterdir()) == []
    name = next(line for line in str(info.value).split() if line.endswith(":u"))
    convert_to_flac(name, tmp_path / "a.flac", **QUICK)
    with rasterio.open(name) as a, FlacRaster.open(tmp_path / "a.flac") as raster:
        np.testing.assert_array_equal(raster.read(bands=[0]), a.read([1]))
        convert_to_geotiff(raster, tmp_path / "b.tif")
        with rasterio.open(tmp_path / "b.tif") as b:
            assert_same_bits(a, b)
            assert (b.scales, b.offsets, b.nodatavals) == (
                a.scales, a.offsets, a.nodatavals,
            )  # fmt: skip


# bad input


def test_no_such_file(tmp_path):
    with pytest.raises(SourceError, match=r"cannot read .*none\.tif"):
        convert_to_flac(tmp_path / "none.tif", tmp_path / "a.flac")
    assert list(tmp_path.iterdir()) == []


def test_not_a_raster(tmp_path):
    (tmp_path / "a.txt").write_text("not a raster")
    with pytest.raises(SourceError, match="not recognized"):
        convert_to_flac(tmp_path / "a.txt", tmp_path / "a.flac")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_bands_of_several_dtypes(tmp_path):
    source = make_vrt(tmp_path / "a.vrt", ("Byte", 0), ("Int16", 0))
    with pytest.raises(UnsupportedDataError, match="int16, uint8"):
        convert_to_flac(source, tmp_path / "a.flac")
    assert [p.name for p in tmp_path.iterdir()] == ["a.vrt"]


def test_truncated_source_leaves_nothing(tmp_path):
    source = make_tif(
        tmp_path / "a.tif",
        scene("int16", 1, 600, 600),
        compress="deflate",
        blockysize=8,
    )
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"cannot read .*a\.tif"):
        convert_to_flac(source, tmp_path / "a.flac", tile_size=64)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_targets_are_not_replaced(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene(), **PLACED)
    flac = tmp_path / "a.flac"
    flac.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        convert_to_flac(source, flac)
    assert flac.read_bytes() == b"mine"
    convert_to_flac(source, flac, overwrite=True)
    before = source.read_bytes()
    with FlacRaster.open(flac) as raster:
        with pytest.raises(FileExistsError, match="overwrite"):
            convert_to_geotiff(raster, source)
        assert source.read_bytes() == before
        convert_to_geotiff(raster, source, overwrite=True)
    assert source.read_bytes() != b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.flac", "a.tif"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("broken")])
def test_an_exception_in_the_middle_leaves_nothing(error, tmp_path):
    source = make_tif(tmp_path / "a.tif", scene(), **PLACED, _mask=VOID)
    kind = error if isinstance(error, type) else type(error)

    def stop(_nbytes: int) -> None:
        raise error

    with pytest.raises(kind):
        convert_to_flac(source, tmp_path / "b.flac", tile_size=8, progress=stop)
    convert_to_flac(source, tmp_path / "a.flac")
    with FlacRaster.open(tmp_path / "a.flac") as raster, pytest.raises(kind):
        convert_to_geotiff(raster, tmp_path / "b.tif", progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.flac", "a.tif"]


@pytest.mark.parametrize("mask", [None, VOID], ids=["pixels", "mask"])
def test_a_file_that_was_closed_on_a_full_disk_is_found(mask, tmp_path):
    source = make_tif(tmp_path / "a.tif", scene("int16"), **PLACED, _mask=mask)
    check_complete(source, "a.tif")
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"cannot write a\.tif"):
        check_complete(source, "a.tif")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene(), **PLACED)
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(SourceError, match="cannot write"):
        convert_to_flac(source, folder / "a.flac")


def test_no_such_folder(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene(), **PLACED)
    convert_to_flac(source, tmp_path / "a.flac")
    with (
        FlacRaster.open(tmp_path / "a.flac") as raster,
        pytest.raises(SourceError, match="cannot write"),
    ):
        convert_to_geotiff(raster, tmp_path / "none" / "b.tif")
    with pytest.raises(SourceError, match="cannot write"):
        convert_to_flac(source, tmp_path / "none" / "b.flac")


BAD_HEADERS = {
    "four dims": (
        Header((ArrayInfo("a", "uint8", ("t", "band", "y", "x"), (1,) * 4, (1,) * 4),)),
        "does not fit",
    ),
    "crs": (
        Header(
            (ArrayInfo("a", "uint8", ("y", "x"), (2, 2), (2, 2)),),
            Georef("EPSG:999999"),
        ),
        "CRS",
    ),
    "transform and gcps": (
        Header(
            (ArrayInfo("a", "uint8", ("y", "x"), (2, 2), (2, 2)),),
            Georef("EPSG:4326", (1.0, 0.0, 5.0, 0.0, -1.0, 9.0), (Gcp(0, 0, 1, 2),)),
        ),
        "one of the two",
    ),
    "nodata of 64 bits": (
        Header(
            (ArrayInfo("a", "int64", ("y", "x"), (2, 2), (2, 2), nodata=(-(2**63),)),)
        ),
        "as a double",
    ),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_what_a_geotiff_cannot_hold(name, tmp_path):
    header, message = BAD_HEADERS[name]
    with FlacRasterWriter.create(tmp_path / "a.flac", header, fill_missing=True):
        pass
    with (
        FlacRaster.open(tmp_path / "a.flac") as raster,
        pytest.raises(UnsupportedDataError, match=message),
    ):
        convert_to_geotiff(raster, tmp_path / "b.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_masks_that_differ_by_band(tmp_path):
    shape = (2, 4, 4)
    arrays = (
        ArrayInfo("a", "uint8", ("band", "y", "x"), shape, shape),
        ArrayInfo("mask", "uint8", ("band", "y", "x"), shape, shape, role="mask"),
    )
    mask = np.zeros(shape, "uint8")
    mask[1, 2, 2] = 255
    with FlacRasterWriter.create(tmp_path / "a.flac", Header(arrays)) as writer:
        writer.write(np.ones(shape, "uint8"))
        writer.write(mask, position=1)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        with pytest.raises(UnsupportedDataError, match="masks that differ"):
            convert_to_geotiff(raster, tmp_path / "b.tif")
        convert_to_geotiff(raster, tmp_path / "b.tif", bands=[1])
    with rasterio.open(tmp_path / "b.tif") as b:
        np.testing.assert_array_equal(b.dataset_mask(), mask[1])
        assert b.mask_flag_enums == ([MaskFlags.per_dataset],)


@pytest.mark.parametrize("bands", [[], [2], [-1]])
def test_bands_outside(bands, tmp_path):
    write_array(tmp_path / "a.flac", scene())
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        with pytest.raises(WindowError, match="bands"):
            convert_to_geotiff(raster, tmp_path / "b.tif", bands=bands)
        with pytest.raises(WindowError):
            convert_to_geotiff(raster, tmp_path / "b.tif", window=Window(0, 0, 21, 30))
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_a_colour_table_tiff_has_no_place_for(tmp_path):
    band = {"colorinterp": "palette", "colormap": pack_colors([(1, 2, 3, 255)])}
    shape = (1, 2, 2)
    info = ArrayInfo("a", "int16", ("band", "y", "x"), shape, shape, bands=(band,))
    with FlacRasterWriter.create(
        tmp_path / "a.flac", Header((info,)), fill_missing=True
    ):
        pass
    with (
        FlacRaster.open(tmp_path / "a.flac") as raster,
        pytest.warns(UserWarning, match="loses its colour table"),
    ):
        convert_to_geotiff(raster, tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as b:
        assert b.colorinterp == (ColorInterp.gray,)


# memory

PEAK = """
import sys
import numpy as np, rasterio
from flac_xarray import FlacRaster, convert_to_flac, convert_to_geotiff
source, flac, back = sys.argv[1:]
convert_to_flac(source, flac, effort=0, threads=2)
with FlacRaster.open(flac) as raster:
    convert_to_geotiff(raster, back, threads=2)
# What getrusage tells begins with the parent's peak.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_memory_is_bounded(tmp_path):
    side = 10980  # a Sentinel-2 band; 241 MB of pixels
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 4000, (512, side), "uint16")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            tmp_path / "a.tif", "w", driver="GTiff", dtype="uint16", count=1,
            width=side, height=side, tiled=True, blockxsize=1024, blockysize=1024,
        ) as out:  # fmt: skip
            for start in range(0, side, 512):
                height = min(512, side - start)
                window = RasterioWindow(0, start, side, height)
                out.write(rows[:height], 1, window=window)
    names = [str(tmp_path / name) for name in ("a.tif", "a.flac", "back.tif")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, *names],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 600


@pytest.mark.parametrize("crs", ["EPSG:abc", "EPSG:4326\0", "no CRS"])
def test_a_crs_that_gdal_does_not_know(tmp_path, crs):
    data = encode_array(np.zeros((1, 4, 4), "uint8"), crs=crs)
    with pytest.raises(UnsupportedDataError, match="its CRS is not known"):
        convert_to_geotiff(data, tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_colour_that_gdal_does_not_know_is_left_out(tmp_path):
    data = with_array(bands=[{"colorinterp": "octarine"}])
    convert_to_geotiff(data, tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as dataset:
        # GDAL takes a TIFF's only band for gray.
        assert dataset.colorinterp[0] in (ColorInterp.undefined, ColorInterp.gray)
