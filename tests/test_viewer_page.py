"""The viewer's page in headless Chromium, against rasterio and NumPy."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from flac_xarray import FlacRaster, convert_to_flac, write_array
from flac_xarray.range_server import RangeHandler, RangeServer
from flac_xarray.viewer import copy_page
from tests.chromium import BINARY, Chromium
from tests.viewer_tiles import chosen_tiles, forced_tiles

pytestmark = pytest.mark.skipif(BINARY is None, reason="no chromium on PATH")

SCRIPT = Path(__file__).with_name("viewer_page.js").read_text()


def ask(browser, name, *arguments):
    """Call one of the functions of viewer_page.js."""
    words = ", ".join(json.dumps(argument) for argument in arguments)
    return browser.evaluate(f"asked.{name}({words})")


@pytest.fixture(scope="module")
def browser():
    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the page and data beside it, as on any web server."""
    folder = tmp_path_factory.mktemp("site")
    copy_page(folder / "viewer")
    return folder


@pytest.fixture(scope="module")
def server(site):
    with RangeServer(site) as server:
        yield server


@pytest.fixture
def page(browser, server):
    """Opens a file of the site in the page; gives the page's state."""

    def open_page(name=None):
        query = f"?file={name if '://' in name else f'../{name}'}" if name else ""
        state = browser.open(server.url_of(f"viewer/index.html{query}"))
        browser.evaluate(SCRIPT)
        return state

    return open_page


def geotiff(path, pixels, **profile):
    count, height, width = pixels.shape
    options = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype.name,
        "crs": "EPSG:32633",
        "transform": Affine(20, 0, 400_000, 0, -20, 5_200_000),
    }
    with rasterio.open(path, "w", **(options | profile)) as target:
        target.write(pixels)


def ground(dtype="int16", count=1, height=700, width=900):
    y, x = np.mgrid[:height, :width]
    wave = np.sin(y / 60) * np.cos(x / 45) * 900 + 1500
    rng = np.random.default_rng(4)
    planes = [wave + 40 * k + rng.normal(0, 4, wave.shape) for k in range(count)]
    return np.stack(planes).astype(dtype)


@pytest.fixture(scope="module")
def terrain(site):
    """A terrain with voids and overviews, and the GeoTIFF it was made of."""
    pixels = ground()
    pixels[:, 100:180, 300:420] = -9999
    source, target = site / "terrain.tif", site / "terrain.flac"
    geotiff(source, pixels, nodata=-9999)
    with rasterio.open(source, "r+") as raster:
        raster.build_overviews([2, 4])
    convert_to_flac(source, target, tile_size=256, overviews=(2, 4))
    return source, target


def test_every_transform_and_dtype_in_the_page_s_own_workers(browser, page, site):
    tiles = forced_tiles() + chosen_tiles()
    (site / "tiles").mkdir()
    for k, tile in enumerate(tiles):
        (site / "tiles" / f"{k}.flac").write_bytes(tile.data)
    page()
    names = [f"../tiles/{k}.flac" for k in range(len(tiles))]
    pairs = zip(tiles, ask(browser, "digests", names), strict=True)
    assert not {t.name: f for t, f in pairs if f != t.digest}


def read_in_page(browser, name, position, plane, window, dtype):
    row, col, height, width = window
    box = {"row": row, "col": col, "height": height, "width": width}
    told = ask(browser, "window", f"../{name}", position, plane, box)
    return np.frombuffer(base64.b64decode(told), dtype).reshape(height, width)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"]
)
def test_windows_are_rasterio_s(browser, page, site, dtype):
    pixels = ground("float64", 3, 300, 410) / 8
    source, target = site / f"{dtype}.tif", site / f"{dtype}.flac"
    geotiff(source, pixels.astype(dtype))
    convert_to_flac(source, target, tile_size=128)
    page()
    with rasterio.open(source) as raster:
        for plane, window in ((0, (0, 0, 300, 410)), (2, (100, 120, 77, 150))):
            row, col, height, width = window
            box = rasterio.windows.Window(col, row, width, height)
            truth = raster.read(plane + 1, window=box)
            found = read_in_page(browser, target.name, 0, plane, window, dtype)
            np.testing.assert_array_equal(found, truth)


REAL = (
    "dem-srtm-everest-int16",
    "dem-lidar-TM1_564_146-f32",
    "meta-f64-nan-gabon",
    "meta-RGB.byte",
    "sar-s1-slc-cint16-gcps",
    "modis-mod09ga-qc-2400-uint32",
    "lc-cmap-dateline-int8",
)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_windows_of_real_rasters_are_rasterio_s(browser, page, site, real_data, name):
    convert_to_flac(real_data / f"{name}.tif", site / f"{name}.flac")
    page()
    with rasterio.open(real_data / f"{name}.tif") as raster:
        height, width = (min(n, 500) for n in raster.shape)
        row, col = (
            (n - m) // 2 for n, m in zip(raster.shape, (height, width), strict=True)
        )
        box = rasterio.windows.Window(col, row, width, height)
        truth = raster.read(raster.count, window=box)
        plane = raster.count - 1
    if truth.dtype.kind == "c":
        truth = np.concatenate([truth.real, truth.imag]).astype("i2")
    box = {"row": row, "col": col, "height": height, "width": width}
    told = ask(browser, "window", f"../{name}.flac", 0, plane, box)
    assert base64.b64decode(told) == truth.tobytes()


def test_cubes_with_leading_dims_and_empty_tiles(browser, page, site):
    cube = np.zeros((3, 2, 150, 140), np.float32)
    cube[1, 1] = ground("float32", 1, 150, 140)[0]
    cube[2, 0, 100:, 100:] = 7.25
    cube[0] = np.nan
    write_array(
        site / "cube.flac",
        cube,
        dims=("time", "band", "y", "x"),
        tile_size=(2, 1, 64, 64),
        nodata=float("nan"),
    )
    page()
    for plane in range(6):
        window = (20, 30, 120, 100)
        found = read_in_page(browser, "cube.flac", 0, plane, window, "float32")
        truth = cube.reshape(6, 150, 140)[plane, 20:140, 30:130]
        assert found.tobytes() == np.ascontiguousarray(truth).tobytes()


def test_the_view_is_drawn_from_the_overview_that_suits_it(browser, page, terrain):
    source, target = terrain
    assert page("terrain.flac") == "ready"
    shown = browser.evaluate("flacViewer.camera.level(flacViewer.map.levels).level")
    assert shown in {0, 1}
    browser.evaluate("flacViewer.camera.scale = 0.25; flacViewer.map.redraw()")
    assert browser.evaluate("flacViewer.camera.level(flacViewer.map.levels).level") == 2
    with FlacRaster.open(target) as raster:
        truth = raster.read(level=2)[0]
        position = raster.header.find(level=2)
    window = (0, 0, *truth.shape)
    found = read_in_page(browser, target.name, position, 0, window, "int16")
    np.testing.assert_array_equal(found, truth)
    with rasterio.open(source, overview_level=1) as overview:
        np.testing.assert_array_equal(truth, overview.read(1))


def test_requests_and_bytes_are_those_that_the_server_sent(
    browser, page, server, terrain
):
    page()  # so that the page before asks for nothing more
    server.reset_counts()
    assert page("terrain.flac") == "ready"
    counts = json.loads(
        browser.evaluate("JSON.stringify(document.getElementById('counts').dataset)")
    )
    assert int(counts["requests"]) == server.requests["/terrain.flac"]
    assert int(counts["bytes"]) == server.bytes["/terrain.flac"]
    with FlacRaster.open(terrain[1]) as raster:
        n_tiles = raster.array().grid.n_tiles
    assert int(counts["requests"]) < 1 + n_tiles  # neighbours come together
    assert server.bytes["/terrain.flac"] <= terrain[1].stat().st_size


def test_value_and_coordinate_under_the_pointer(browser, page, terrain):
    assert page("terrain.flac") == "ready"
    with rasterio.open(terrain[0]) as raster:
        pixels = raster.read(1)
    browser.evaluate("flacViewer.camera.zoom(16); flacViewer.map.redraw()")
    ask(browser, "settle")
    for row, col in ((350, 450), (352, 447), (345, 455)):
        browser.mouse("mouseMoved", *ask(browser, "pixel", row, col))
        told = ask(browser, "text", "#readout")
        x, y = 400_000 + 20 * (col + 0.5), 5_200_000 - 20 * (row + 0.5)
        assert told.startswith(f"{pixels[row, col]} value")
        assert f"{row}, {col} row, col" in told
        shown = [
            float(n)
            for n in ask(browser, "text", '#readout b[data-name="x, y"]').split(", ")
        ]
        np.testing.assert_allclose(shown, (x, y), atol=1.0)


def test_colours_on_the_canvas_are_the_pixels(browser, page, site):
    rng = np.random.default_rng(6)
    pixels = rng.integers(0, 256, (3, 40, 60)).astype("u1")
    geotiff(site / "rgb.tif", pixels, photometric="RGB")
    convert_to_flac(site / "rgb.tif", site / "rgb.flac", tile_size=16)
    assert page("rgb.flac") == "ready"
    ask(browser, "settle")
    places = [[int(r), int(c)] for r in range(0, 40, 3) for c in range(0, 60, 7)]
    found = ask(browser, "colors", places)
    assert found == [[*map(int, pixels[:, r, c]), 255] for r, c in places]


def test_colour_tables_of_the_file_and_voids(browser, page, site):
    pixels = np.arange(48, dtype="u1").reshape(1, 6, 8) % 5
    table = {
        0: (9, 8, 7, 255),
        1: (200, 10, 30, 255),
        2: (0, 120, 5, 255),
        3: (4, 4, 250, 255),
        4: (77, 0, 99, 255),
    }
    geotiff(site / "table.tif", pixels, nodata=0)
    with rasterio.open(site / "table.tif", "r+") as raster:
        raster.write_colormap(1, table)
        table = raster.colormap(1)
    convert_to_flac(site / "table.tif", site / "table.flac")
    assert page("table.flac") == "ready"
    ask(browser, "settle")
    places = [[int(r), int(c)] for r in range(6) for c in range(8)]
    under = [32, 38, 45, 255]  # what is seen through voids
    found = ask(browser, "colors", places)
    assert found == [
        list(table[v]) if (v := pixels[0, r, c]) else under for r, c in places
    ]


@pytest.mark.parametrize("kind", ["alpha", "mask"])
def test_what_alpha_and_masks_hide_is_not_drawn(browser, page, site, kind):
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 256, (4, 40, 50)).astype("u1")
    pixels[3] = np.where(pixels[3] > 99, 255, 0)
    name = f"{kind}.tif"
    if kind == "alpha":
        geotiff(site / name, pixels, photometric="RGB", alpha="YES")
    else:
        geotiff(site / name, pixels[:3], photometric="RGB")
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(site / name, "r+") as raster,
        ):
            raster.write_mask(pixels[3])
    convert_to_flac(site / name, site / f"{kind}.flac", tile_size=16)
    assert page(f"{kind}.flac") == "ready"
    ask(browser, "settle")
    places = [[int(r), int(c)] for r in range(0, 40, 3) for c in range(0, 50, 7)]
    under = [32, 38, 45]
    expected = [
        [*(map(int, pixels[:3, r, c]) if pixels[3, r, c] else under), 255]
        for r, c in places
    ]
    assert ask(browser, "colors", places) == expected


def test_a_stretch_runs_from_low_to_high(browser, page, site):
    pixels = np.arange(256, dtype="f4").reshape(1, 16, 16) * 10 - 500
    geotiff(site / "ramp.tif", pixels)
    convert_to_flac(site / "ramp.tif", site / "ramp.flac")
    assert page("ramp.flac") == "ready"
    ask(browser, "stretch", -500, 2060)
    ask(browser, "settle")
    places = [[int(r), int(c)] for r in range(16) for c in range(16)]
    found = [color[0] for color in ask(browser, "colors", places)]
    assert found == list(range(256))


@pytest.mark.usefixtures("terrain")
def test_a_tile_is_told_and_heard(browser, page):
    assert page("terrain.flac") == "ready"
    browser.click(*ask(browser, "pixel", 500, 700))
    browser.evaluate("asked.until(() => document.getElementById('play'))")
    assert "smooth" in ask(browser, "text", "#tile")
    browser.click(*ask(browser, "middle", "#play"))
    said = browser.evaluate("asked.until(() => asked.text('#sound'))")
    assert "s, 16 bits, mono" in said
    assert ask(browser, "text", "#play").endswith("Stop")


def broken(path: Path, name: str, change) -> str:
    data = bytearray(path.read_bytes())
    changed = change(data)
    (path.parent / name).write_bytes(data if changed is None else changed)
    return name


def flip(at):
    def change(data):
        data[at] ^= 1

    return change


def newer(data):
    return bytes(data).replace(b'"version":"1.0"', b'"version":"2.0"', 1)


BAD = {
    "header": (flip(60), "the header is damaged"),
    "truncated": (lambda data: data[:-5000], "truncated or was changed"),
    "cut": (lambda data: data[:300], "ends in the header"),
    "sound": (lambda _: b"RIFF" + bytes(2000), "not a FLAC raster"),
    "newer": (newer, "written in format 2.0"),
    "empty": (lambda _: b"", "cannot be"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_give_a_message(browser, page, terrain, kind):
    change, expected = BAD[kind]
    assert page(broken(terrain[1], f"bad-{kind}.flac", change)) == "error"
    told = ask(browser, "text", "#message")
    assert expected in told or kind == "empty", told
    assert browser.evaluate("document.getElementById('message').hidden") is False


def test_a_damaged_tile_is_told_and_not_drawn(browser, page, terrain):
    name = broken(terrain[1], "bad-tile.flac", flip(-100))
    with FlacRaster.open(terrain[1]) as raster:
        tables = raster.index.tables
    last = max(
        (int(table.rows["offset"][k]), array, k)
        for array, table in enumerate(tables)
        for k in range(len(table.rows))
    )
    state = page(name)
    assert state == "ready"
    told = ask(browser, "tileError", f"../{name}", last[1], last[2])
    assert f"tile {last[2]} at byte {last[0]} is damaged" in told


def test_a_missing_file_is_told(browser, page):
    assert page("nothing.flac") == "error"
    assert "404" in ask(browser, "text", "#message")


class _NoRanges(RangeHandler):
    def wanted_range(self, size, etag):  # noqa: ARG002 - always the whole file
        return None


@pytest.mark.usefixtures("terrain")
def test_a_server_without_ranges_is_told(browser, site):
    with RangeServer(site, _NoRanges) as server:
        state = browser.open(server.url_of("viewer/index.html?file=../terrain.flac"))
        browser.evaluate(SCRIPT)
        assert state == "ready"
        assert "fetched whole" in ask(browser, "text", "#counts")
        assert server.requests["/terrain.flac"] == 1


@pytest.mark.usefixtures("terrain")
def test_another_origin_must_allow_it(browser, page, site):
    with RangeServer(site) as other:
        state = page(other.url_of("terrain.flac"))
    assert state == "error"
    assert "CORS" in ask(browser, "text", "#message")


def test_a_damaged_tile_is_told_over_the_others(browser, page, site):
    pixels = np.random.default_rng(3).integers(0, 256, (1, 40, 60)).astype("u1")
    geotiff(site / "two.tif", pixels)
    convert_to_flac(site / "two.tif", site / "two.flac", tile_size=32)
    with FlacRaster.open(site / "two.flac") as raster:
        last = int(np.argmax(raster.index.tables[0].rows["offset"]))
    assert page(broken(site / "two.flac", "two-bad.flac", flip(-100))) == "ready"
    assert f"tile {last} at byte" in ask(browser, "text", "#notice span")
    assert browser.evaluate("document.getElementById('notice').hidden") is False
    # Threads put tiles in any order: the damaged one may be the first.
    whole = [4, 4] if last else [36, 36]
    color = ask(browser, "colors", [whole])[0]
    assert color[0] == color[1] == color[2]  # gray, as it was stretched
    assert browser.evaluate("flacViewer.map.failed.size") == 1


@pytest.mark.usefixtures("terrain")
def test_large_views_are_fetched_when_the_user_agrees(browser, page):
    assert page("terrain.flac") == "ready"
    scale = "flacViewer.camera.scale = 0.25; flacViewer.map.allowed = 100"
    browser.evaluate(f"{scale}; flacViewer.map.redraw()")
    notice = "document.getElementById('notice')"
    browser.evaluate(f"asked.until(() => !{notice}.hidden)")
    assert "This view needs" in ask(browser, "text", "#notice span")
    browser.click(*ask(browser, "middle", "#notice button"))
    browser.evaluate(f"asked.until(() => {notice}.hidden)")
    ask(browser, "settle")


@pytest.mark.usefixtures("terrain")
def test_wheel_and_drag_move_the_view(browser, page):
    assert page("terrain.flac") == "ready"
    x, y = map(round, ask(browser, "pixel", 300, 400))
    under = f"Object.values(flacViewer.camera.toRaster({{x: {x}, y: {y}}}))"
    before = browser.evaluate("flacViewer.camera.scale")
    place = browser.evaluate(under)
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-600)
    assert browser.evaluate("flacViewer.camera.scale") > 2 * before
    # What was under the pointer still is.
    np.testing.assert_allclose(browser.evaluate(under), place, atol=1e-6)
    old = ask(browser, "pixel", 300, 400)
    browser.mouse("mousePressed", x, y, button="left", clickCount=1)
    browser.mouse("mouseMoved", x + 30, y - 20, button="left", buttons=1)
    browser.mouse("mouseReleased", x + 30, y - 20, button="left", clickCount=1)
    moved = np.subtract(ask(browser, "pixel", 300, 400), old)
    np.testing.assert_allclose(moved, (30, -20), atol=1e-6)
    browser.evaluate("document.getElementById('fit').click()")
    assert browser.evaluate("flacViewer.camera.scale") == pytest.approx(before)
