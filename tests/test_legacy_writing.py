"""Files in the old forms: flac-raster 0.1.2 opens them, and every pixel is right."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from flac_xarray import FlacRaster, UnsupportedDataError, write_array
from flac_xarray.cli import main
from flac_xarray.geotiff import convert_to_flac, convert_to_legacy
from flac_xarray.legacy import Stretch, undo_stretch
from flac_xarray.legacy.writing import identity_stretch, to_samples
from flac_xarray.range_server import RangeServer

pytestmark = pytest.mark.filterwarnings(
    "ignore:Dataset has no geotransform", "ignore:Use `@` matmul"
)

RNG = np.random.default_rng(11)
PLACE = Affine(10, 0, 500000, 0, -10, 4000000)
TILE = 32
LOCAL = (
    'PROJCS["somewhere",GEOGCS["GCS",DATUM["D",SPHEROID["S",6370000,0]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",45],'
    'PARAMETER["longitude_of_center",-100],PARAMETER["false_easting",0],'
    'PARAMETER["false_northing",0],UNIT["metre",1]]'
)


@dataclass(frozen=True)
class Case:
    """A raster to write; its pixels span the whole dtype unless they are given."""

    dtype: str = "uint16"
    shape: tuple[int, int, int] = (1, 50, 70)
    crs: str | None = "EPSG:32633"
    transform: Affine | None = PLACE
    nodata: float | None = None
    pixels: Any = field(default=None, compare=False)

    def read(self) -> np.ndarray:
        if self.pixels is not None:
            return self.pixels
        limits = np.iinfo(self.dtype)
        pixels = np.random.default_rng(5).integers(
            limits.min, limits.max, self.shape, self.dtype, endpoint=True
        )
        pixels[:, 0, 0], pixels[:, -1, -1] = limits.min, limits.max
        return pixels

    def write(self, path: Path) -> Path:
        pixels = self.read()
        profile = {"driver": "GTiff", "dtype": self.dtype, "crs": self.crs}
        profile |= dict(zip(("count", "height", "width"), pixels.shape, strict=True))
        if self.transform is not None:
            profile["transform"] = self.transform
        with rasterio.open(path, "w", nodata=self.nodata, **profile) as out:
            out.write(pixels)
        return path


EVERY_UINT16 = np.arange(65536).astype("uint16").reshape(1, 256, 256)
CASES = {
    **{
        f"{dtype}-{count}": Case(dtype, (count, 50, 70))
        for dtype in ("int8", "uint8", "int16", "uint16")
        for count in (1, 3, 8)
    },
    "every-uint16": Case(pixels=EVERY_UINT16),
    "every-int16": Case("int16", pixels=EVERY_UINT16.view("int16")),
    "constant": Case(pixels=np.full((1, 40, 40), 60000, "uint16")),
    "one-pixel": Case("uint8", (2, 1, 1)),
    "nodata": Case("int16", nodata=-9999),
    "no-crs": Case(crs=None),
    "no-georeference": Case(crs=None, transform=None),
    "rotated": Case(transform=Affine(10, 2, 5e5, 3, -10, 4e6)),
    "south-up": Case(transform=Affine(10, 0, 5e5, 0, 10, 4e6)),
    "esri": Case(crs="ESRI:102039"),
    "local": Case(crs=LOCAL),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Each case as .tif and in the two forms; what flac-raster makes of these."""
    folder = tmp_path_factory.mktemp("ours")
    for name, case in CASES.items():
        tif = case.write(folder / f"{name}.tif")
        for form, profile in (("raw", "raw"), ("streaming", "flac-raster")):
            target = folder / f"{name}-{form}.flac"
            convert_to_legacy(tif, target, profile=profile, tile_size=TILE)
    if importlib.util.find_spec("flac_raster") is not None:
        script = Path(__file__).with_name("flac_raster_files.py")
        words = [sys.executable, "-W", "ignore", str(script), "read", str(folder)]
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def need_flac_raster() -> None:
    if importlib.util.find_spec("flac_raster") is None:
        pytest.skip("flac-raster is not installed")


def windows(path: Path) -> list[tuple[rasterio.windows.Window, dict[str, Any]]]:
    data = path.read_bytes()
    index = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
    return [
        (rasterio.windows.Window(**frame["window"]), frame) for frame in index["frames"]
    ]


def check_same(path: Path, original, window=None) -> None:
    """Whether a GeoTIFF is (a window of) another one."""
    with rasterio.open(path) as found:
        np.testing.assert_array_equal(found.read(), original.read(window=window))
        assert found.dtypes == original.dtypes
        assert found.crs == original.crs
        assert found.nodata == original.nodata
        place = original.transform
        if window is not None and place != Affine.identity():
            place = original.window_transform(window)
        if original.transform != Affine.identity():
            assert found.transform.almost_equals(place, precision=1e-9)
        else:
            assert found.transform == Affine.identity()


@pytest.mark.parametrize("name", CASES)
def test_flac_raster_extracts_every_tile_exactly(folder, name):
    need_flac_raster()
    path = folder / f"{name}-streaming.flac"
    tiles = windows(path)
    with rasterio.open(folder / f"{name}.tif") as original:
        for number, (window, _) in enumerate(tiles):
            check_same(folder / f"{path.stem}-{number}.back", original, window)
        check_same(folder / f"{path.stem}-last.back", original, tiles[-1][0])
        check_same(folder / f"{path.stem}-bbox.back", original, tiles[0][0])


def test_flac_raster_extracts_from_a_web_server(folder, tmp_path):
    need_flac_raster()
    script = Path(__file__).with_name("flac_raster_files.py")
    target = tmp_path / "tile.tif"
    with RangeServer(folder) as server:
        url = server.url_of("int16-3-streaming.flac")
        words = ["run", "extract-streaming", url, "--tile-id", "5", "-o", str(target)]
        subprocess.run(
            [sys.executable, "-W", "ignore", str(script), *words],
            check=True,
            capture_output=True,
            timeout=100,
        )
        assert server.requests["/int16-3-streaming.flac"] == 3
    window, _ = windows(folder / "int16-3-streaming.flac")[5]
    with rasterio.open(folder / "int16-3.tif") as original:
        check_same(target, original, window)


@pytest.mark.parametrize("name", CASES)
def test_flac_raster_reads_the_raw_form_exactly(folder, name):
    need_flac_raster()
    with rasterio.open(folder / f"{name}.tif") as original:
        check_same(folder / f"{name}-raw.back", original)


@pytest.mark.parametrize("form", ["raw", "streaming"])
@pytest.mark.parametrize("name", CASES)
def test_our_reader_reads_them_exactly_and_without_a_warning(folder, name, form):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raster = FlacRaster.open(folder / f"{name}-{form}.flac")
        pixels = raster.read()
    case = CASES[name]
    np.testing.assert_array_equal(pixels, case.read())
    assert pixels.dtype == case.dtype
    assert raster.array().nodata == (case.nodata,)
    transform = None if case.transform is None else tuple(case.transform)[:6]
    assert raster.georef.transform == transform
    assert (raster.georef.crs is None) == (case.crs is None)
    count, height, width = pixels.shape
    side = (height, width) if form == "raw" else (min(TILE, height), min(TILE, width))
    assert raster.array().tile == (count, *side)


def test_the_index_counts_from_its_own_end_and_boxes_are_the_pixels(folder):
    path = folder / "uint8-3-streaming.flac"
    data = path.read_bytes()
    start = 4 + int.from_bytes(data[:4], "big")
    tiles = windows(path)
    stop = start
    for window, frame in tiles:
        assert start + frame["byte_offset"] == stop
        assert data[stop : stop + 4] == b"fLaC"
        stop += frame["byte_size"]
        west, north = PLACE * (window.col_off, window.row_off)
        right, low = window.col_off + window.width, window.row_off + window.height
        east, south = PLACE * (right, low)
        assert frame["bbox"] == [west, south, east, north]
    assert stop == len(data)


@pytest.mark.parametrize("form", ["raw", "streaming"])
def test_a_foreign_decoder_finds_pixels_in_the_samples(folder, form):
    """8 bits and int16 lie there as they are, uint16 less 32768."""
    import io

    import soundfile

    for dtype, shift in (("uint8", 0), ("int16", 0), ("uint16", 32768)):
        data = (folder / f"{dtype}-3-{form}.flac").read_bytes()
        stream = data[data.index(b"fLaC") :]
        samples, _ = soundfile.read(io.BytesIO(stream), dtype="int16", frames=30)
        pixels = CASES[f"{dtype}-3"].read()[:, 0, :30].T
        np.testing.assert_array_equal(samples.astype(int) + shift, pixels)


def test_the_stretch_is_the_identity_for_every_sample():
    every = np.arange(-32768, 32768).astype("int16")
    for dtype in ("int8", "uint8", "int16", "uint16"):
        limits = np.iinfo(dtype)
        pixels = np.arange(limits.min, limits.max + 1).astype(dtype)
        samples = to_samples(pixels.reshape(1, 1, -1))[:, 0]
        found = undo_stretch(samples, 16, dtype, identity_stretch(dtype))
        np.testing.assert_array_equal(found, pixels)
    # flac-raster's own arithmetic, written out again: floats of 32 bits.
    norm = (every / 32768).astype(np.float32)
    stretch = Stretch(0.0, 65536.0)
    told = (norm + 1.0) / 2.0 * (stretch.high - stretch.low) + stretch.low
    np.testing.assert_array_equal(np.round(told).astype(int), every.astype(int) + 32768)


# -- refusals


def change(path: Path, **attributes: Any) -> None:
    with rasterio.open(path, "r+") as dataset:
        for name, value in attributes.items():
            setattr(dataset, name, value)


def add_mask(path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as out:
        out.write_mask(np.eye(50, 70, dtype=bool))


def add_colours(path: Path) -> None:
    with rasterio.open(path, "r+") as out:
        out.write_colormap(1, {1: (1, 2, 3, 255)})


POINTS = [GroundControlPoint(r, c, c * 2, r * 3) for r, c in ((0, 0), (0, 9), (9, 0))]
REFUSED = {
    "float32": (Case, {"dtype": "uint16"}, None, "dtype float32"),
    "bands": (Case, {"shape": (9, 50, 70)}, None, "9 bands: expected at most 8"),
    "mask": (Case, {}, add_mask, "cannot hold a mask"),
    "scale": (Case, {}, lambda p: change(p, scales=(0.1,)), "a scale"),
    "offset": (Case, {}, lambda p: change(p, offsets=(5,)), "an? offset"),
    "colours": (Case, {"dtype": "uint8"}, add_colours, "a colormap"),
    "gcps": (
        Case,
        {"transform": None, "crs": None},
        lambda p: change(p, gcps=(POINTS, rasterio.CRS.from_epsg(4326))),
        "GCPs",
    ),
}


@pytest.mark.parametrize("profile", ["flac-raster", "raw"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_held_is_refused_by_name(tmp_path, name, profile):
    make, values, alter, says = REFUSED[name]
    tif = tmp_path / "a.tif"
    make(**values).write(tif)
    if alter is not None:
        alter(tif)
    if name == "float32":
        with rasterio.open(tif) as src:
            pixels, meta = src.read().astype("float32"), src.profile
        with rasterio.open(tif, "w", **(meta | {"dtype": "float32"})) as out:
            out.write(pixels)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(UnsupportedDataError, match=rf"{profile} file.*{says}"):
        convert_to_legacy(tif, tmp_path / "a.flac", profile=profile)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_several_reasons_are_all_given(tmp_path):
    pixels = RNG.random((9, 20, 20)).astype("float64")
    write_array(tmp_path / "a.flac", pixels)
    with (
        FlacRaster.open(tmp_path / "a.flac") as raster,
        pytest.raises(UnsupportedDataError, match=r"float64.*nor 9 bands"),
    ):
        convert_to_legacy(raster, tmp_path / "b.flac")


def test_more_dims_and_unknown_profiles_are_refused(tmp_path):
    dims = ("time", "band", "y", "x")
    write_array(tmp_path / "a.flac", np.ones((2, 1, 9, 9), "uint8"), dims=dims)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        with pytest.raises(UnsupportedDataError, match="time"):
            convert_to_legacy(raster, tmp_path / "b.flac")
        with pytest.raises(ValueError, match="profile 'mp3'"):
            convert_to_legacy(raster, tmp_path / "b.flac", profile="mp3")


def test_what_says_nothing_about_pixels_is_left_out_with_a_warning(tmp_path):
    tif = Case().write(tmp_path / "a.tif")
    with rasterio.open(tif, "r+") as out:
        out.update_tags(AREA_OR_POINT="Area", NAME="x")
        out.set_band_description(1, "red")
    with pytest.warns(UserWarning, match="no description, tags"):
        convert_to_legacy(tif, tmp_path / "a.flac")


# -- the command line


def test_the_command_writes_both_forms_of_any_raster(tmp_path):
    tif = Case("int16", nodata=7).write(tmp_path / "a.tif")
    convert_to_flac(tif, tmp_path / "a.flac", tile_size=16)
    for source in ("a.tif", "a.flac"):
        for profile in ("flac-raster", "raw"):
            target = tmp_path / f"{profile}-of-{source}.flac"
            words = ["convert", str(tmp_path / source), "-o", str(target)]
            words += ["--profile", profile, "--tile-size", "32", "--effort", "9"]
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, done.output
            assert "ratio" in done.stdout
            assert done.stderr == ""
            same = ["compare", str(target), str(tif)]
            assert CliRunner().invoke(main, same).exit_code == 0
            with FlacRaster.open(target) as raster:
                assert raster.array().nodata == (7,)
            # An old form is a source, too.
            again = [*words[:1], str(target), "-o", str(tmp_path / "again.flac")]
            again += [*words[4:6], "--overwrite", "--quiet"]
            assert CliRunner().invoke(main, again).exit_code == 0
    wrong = ["convert", str(tif), "-o", str(tmp_path / "b.tif"), "--profile", "raw"]
    told = CliRunner().invoke(main, wrong)
    assert told.exit_code == 2
    assert "the output is a raw file" in told.stderr
