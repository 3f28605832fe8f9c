"""Every command, with rasterio as the oracle and a server that counts."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import warnings

import click
import numpy as np
import pytest
import rasterio
import rasterio.windows
from click.testing import CliRunner

from flac_xarray.array_writer import write_array
from flac_xarray.cli import main
from flac_xarray.cli.group import FlacGroup
from flac_xarray.cli.output import print_table
from flac_xarray.range_server import RangeServer
from flac_xarray.scenes import classes_scene, multispectral_scene, terrain_scene
from tests.servers import FaultServer, ignore_range

# rasterio uses what affine calls old.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning"
)

TILE = 128
RUN = "from flac_xarray.cli import main; main(prog_name='flac-raster')"


def run(*words, code=0):
    """Run a command in this process."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def run_json(*words, code=0):
    return json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """``dem``, ``s2`` and ``classes``, each as .tif and as .flac of 128-pixel tiles."""
    folder = tmp_path_factory.mktemp("scenes")
    for name, scene in (
        ("dem", terrain_scene(400, 500)),
        ("s2", multispectral_scene(300, 280)),
        ("classes", classes_scene(300, 300)),
    ):
        scene.write_geotiff(folder / f"{name}.tif")
        run(
            *("convert", folder / f"{name}.tif", "-o", folder / f"{name}.flac"),
            *("--tile-size", TILE, "--quiet"),
        )
    return folder


@pytest.fixture
def server(scenes):
    with RangeServer(scenes) as server:
        yield server


# -- the group


def test_help_is_light_and_names_every_command():
    code = f"import sys\ntry:\n {RUN}\nfinally:\n print(*sys.modules, file=sys.stderr)"
    for word in ("--help", "-h"):
        done = subprocess.run(
            [sys.executable, "-c", code, word],
            capture_output=True,
            text=True,
            check=True,
        )
        assert {
            *("convert", "info", "spatial-info", "query", "extract"),
            *("compare", "validate", "demo", "completion"),
        } <= set(done.stdout.split())
        heavy = {"rasterio", "xarray", "numpy.fft", "rich", "aiohttp", "pyflac"}
        assert not heavy & set(done.stderr.split())


def test_version():
    assert run("--version").stdout.split()[-1] == "0.1.0"


@pytest.mark.parametrize("first", [True, False])
def test_debug_shows_the_error_itself(tmp_path, first):
    words = ["info", str(tmp_path / "none.flac")]
    words = ["--debug", *words] if first else [*words, "--debug"]
    assert isinstance(CliRunner().invoke(main, words).exception, FileNotFoundError)


def test_a_reader_that_goes_away(scenes):
    words = [sys.executable, "-c", RUN, "spatial-info", str(scenes / "dem.flac")]
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(words, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in process.communicate()[1]


def test_warnings_are_one_line():
    @click.group(cls=FlacGroup)
    def group():
        pass

    @group.command()
    def old():
        warnings.simplefilter("always")
        warnings.warn("values were lost", UserWarning, stacklevel=1)

    result = CliRunner().invoke(group, ["old"])
    assert (result.exit_code, result.stderr) == (0, "Warning: values were lost\n")


def test_interrupt_is_130():
    @click.group(cls=FlacGroup)
    def group():
        pass

    @group.command()
    def long():
        raise KeyboardInterrupt

    result = CliRunner().invoke(group, ["long"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_output_in_a_pipe_has_no_colours_and_is_not_cut(scenes):
    done = subprocess.run(
        [sys.executable, "-c", RUN, "spatial-info", str(scenes / "dem.flac")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "20", "TERM": "xterm-256color"},
    )
    assert "\x1b" not in done.stdout
    assert "0,0,128,128" in done.stdout


# -- convert


def in_terminal(words, env=None):
    """Run a command whose standard error is a terminal; give what it shows there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, words)],
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TERM": "xterm-256color"} | (env or {}),
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.parametrize("name", ["dem", "s2", "classes"])
def test_there_and_back(scenes, tmp_path, name):
    original = scenes / f"{name}.tif"
    back = tmp_path / "back.tif"
    told = run("convert", scenes / f"{name}.flac", "-o", back).stdout
    assert f"{name}.flac" in told
    assert "ratio" in told
    with rasterio.open(original) as a, rasterio.open(back) as b:
        assert a.profile == b.profile
        assert a.tags() == b.tags()
        assert a.descriptions == b.descriptions
        np.testing.assert_array_equal(a.read(), b.read())
    assert names_in(tmp_path) == ["back.tif"]


def test_options_of_convert(scenes, tmp_path):
    words = ["convert", scenes / "s2.tif", "-o"]
    one, two = tmp_path / "one.flac", tmp_path / "two.flac"
    run(*words, one, "--level", 0, "--interleave", "pixel", "--threads", 1, "--spatial")
    run(*words, two, "--effort", 9, "--interleave", "pixel")
    assert one.stat().st_size > two.stat().st_size
    (array,) = run_json("info", one)["arrays"]
    assert array["tile"] == [4, 512, 512]
    run("compare", one, two, "--strict")


def test_the_bytes_decide_not_the_name(scenes, tmp_path):
    hidden = tmp_path / "raster.bin"
    shutil.copy(scenes / "dem.flac", hidden)
    run("convert", hidden, "-o", tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as a, rasterio.open(scenes / "dem.tif") as b:
        np.testing.assert_array_equal(a.read(), b.read())
    wrong = tmp_path / "geotiff.flac"
    shutil.copy(scenes / "dem.tif", wrong)
    run("convert", wrong, "-o", tmp_path / "b.flac")
    assert (tmp_path / "b.flac").read_bytes()[4:25] == b'{"format":"flacraster'


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("dem.tif", "dem.tif", "extension .flac"),
        ("dem.tif", "dem.png", "extension .flac"),
        ("dem.flac", "dem.flac", "extension .tif"),
        ("dem.flac", "dem.png", "extension .tif"),
        ("dem.flac", "dem", "extension .tif"),
    ],
)
def test_names_that_mislead_are_refused(scenes, tmp_path, source, target, says):
    told = run("convert", scenes / source, "-o", tmp_path / target, code=2).stderr
    assert says in told
    assert not names_in(tmp_path)


@pytest.mark.parametrize("names", [("dem.tif", "out.flac"), ("dem.flac", "out.tif")])
def test_convert_overwrites_only_when_told(scenes, tmp_path, names):
    source, target = scenes / names[0], tmp_path / names[1]
    target.write_bytes(b"mine")
    result = run("convert", source, "-o", target, code=1)
    assert "--overwrite" in result.stderr
    assert target.read_bytes() == b"mine"
    assert run("convert", source, "-o", target, "--overwrite", "-q").output == ""
    assert target.stat().st_size > 1000
    assert names_in(tmp_path) == [names[1]]


def test_convert_from_a_url(scenes, server, tmp_path):
    del scenes
    run("convert", server.url_of("classes.flac"), "-o", tmp_path / "a.tif")
    run("compare", tmp_path / "a.tif", server.url_of("classes.flac"), "--strict")


def test_progress_is_shown_in_a_terminal_only(scenes, tmp_path):
    words = ["convert", scenes / "dem.tif", "--overwrite", "-o", tmp_path / "a.flac"]
    assert "Encoding" in in_terminal(words)
    assert "\x1b[3" not in in_terminal(words, {"NO_COLOR": "1"})
    assert in_terminal([*words, "--quiet"]) == ""
    assert run(*words).stderr == ""


@pytest.mark.parametrize(
    ("direction", "signum", "code", "says"),
    [
        ("encode", signal.SIGINT, 130, "Interrupted."),
        ("decode", signal.SIGINT, 130, "Interrupted."),
        ("encode", signal.SIGTERM, 143, "Ended by SIGTERM."),
        ("decode", signal.SIGHUP, 129, "Ended by SIGHUP."),
    ],
)
def test_signals_leave_nothing_behind(tmp_path, direction, signum, code, says):
    source, target = tmp_path / "in.tif", tmp_path / "out" / "out.flac"
    target.parent.mkdir()
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 4, "crs": "EPSG:3857"}
    place = rasterio.Affine(2, 0, 9, 0, -2, 9)
    noise = np.random.default_rng(0).integers(0, 256, (4, 3000, 3000), "uint8")
    if direction == "decode":
        source, target = tmp_path / "in.flac", target.with_suffix(".tif")
        write_array(source, noise, effort=0)
    else:
        with rasterio.open(
            source, "w", height=3000, width=3000, transform=place, **profile
        ) as out:
            out.write(noise)
    words = ["convert", str(source), "-o", str(target), "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *words], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not names_in(target.parent) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signum)
    _, told = process.communicate(timeout=120)
    assert (process.returncode, told) == (code, f"{says}\n")
    assert names_in(target.parent) == []


# -- info, spatial-info, query


def test_info(scenes):
    told = run("info", scenes / "s2.flac").stdout
    for text in ("EPSG:32632", "uint16", "B08, near infrared", "band 4, y 300, x 280"):
        assert text in told
    value = run_json("info", scenes / "s2.flac")
    with rasterio.open(scenes / "s2.tif") as original:
        assert value["crs"] == original.crs.to_string()
        assert value["transform"] == list(original.transform)[:6]
        assert value["bounds"] == list(original.bounds)
        assert value["arrays"][0]["shape"] == [4, 300, 280]
        assert value["arrays"][0]["nodata"] == [0]
        assert value["tags"][""] == original.tags()
    assert value["file_bytes"] == (scenes / "s2.flac").stat().st_size
    assert value["arrays"][0]["tiles"] == 4 * 3 * 3


def test_info_of_a_long_crs_and_none(tmp_path):
    write_array(tmp_path / "a.flac", np.zeros((2, 2), "u1"))
    assert "none" in run("info", tmp_path / "a.flac").stdout
    wkt = 'LOCAL_CS["a place of its own", UNIT["metre", 1], AXIS["Easting", EAST]]'
    write_array(tmp_path / "b.flac", np.zeros((2, 2), "u1"), crs=wkt)
    assert "a place of its own (LOCAL_CS" in run("info", tmp_path / "b.flac").stdout


def test_info_of_a_url_is_one_request(server):
    assert run_json("info", server.url_of("s2.flac"))["requests"] == 1
    assert server.requests["/s2.flac"] == 1
    assert server.bytes["/s2.flac"] <= 64 << 10


def test_spatial_index_has_the_seed_s_shape(scenes):
    index = run_json("spatial-info", scenes / "dem.flac")
    data = (scenes / "dem.flac").read_bytes()
    assert set(index) == {"tiles", "total_bytes"}
    assert [tile["id"] for tile in index["tiles"]] == list(range(4 * 4))
    total = 0
    with rasterio.open(scenes / "dem.tif") as original:
        for tile in index["tiles"]:
            first, last = tile["byte_range"]
            assert data[first : first + 4] == b"fLaC"
            total += last - first + 1
            window = rasterio.windows.Window(*tile["window"])
            expected = rasterio.windows.bounds(window, original.transform)
            assert tile["bbox"] == pytest.approx(expected)
        # The first and the last bytes are named, both inclusive.
        assert index["tiles"][-1]["byte_range"][1] == len(data) - 1
        assert index["tiles"][-1]["window"] == [384, 384, 116, 16]
    assert index["total_bytes"] == total


def test_spatial_index_of_bands_and_empty_tiles(tmp_path):
    pixels = np.zeros((2, 4, 6), "uint8")
    pixels[1, 3, 5] = 7
    write_array(tmp_path / "a.flac", pixels, tile_size=4)
    index = run_json("spatial-info", tmp_path / "a.flac")
    assert [tile["index"] for tile in index["tiles"]] == [
        [band, 0, col] for band in (0, 1) for col in (0, 1)
    ]
    full = [tile["byte_range"] is not None for tile in index["tiles"]]
    assert full == [False, False, False, True]
    told = run("spatial-info", tmp_path / "a.flac", "--limit", 1).stdout
    assert "empty" in told
    assert "3 more" in told
    told = run("spatial-info", tmp_path / "a.flac").stdout
    assert " 1,0,1 " in told  # the band, without which rows look alike


def touched(original, bbox, tile):
    """Tile numbers of a box, by looking at every tile."""
    xmin, ymin, xmax, ymax = bbox
    numbers = []
    rows, cols = -(-original.height // tile), -(-original.width // tile)
    for row in range(rows):
        for col in range(cols):
            window = rasterio.windows.Window(
                col * tile,
                row * tile,
                min(tile, original.width - col * tile),
                min(tile, original.height - row * tile),
            )
            west, south, east, north = rasterio.windows.bounds(
                window, original.transform
            )
            if xmin < east and xmax > west and ymin < north and ymax > south:
                numbers.append(row * cols + col)
    return numbers


@pytest.mark.parametrize(
    "part", [(0.1, 0.1, 0.2, 0.2), (0.2, 0.5, 0.6, 0.99), (-1, -1, 2, 2)]
)
def test_query_names_tiles_and_bytes(scenes, part):
    with rasterio.open(scenes / "dem.tif") as original:
        west, south, east, north = original.bounds
        dx, dy = east - west, north - south
        bbox = (
            *(west + part[0] * dx, south + part[1] * dy),
            *(west + part[2] * dx, south + part[3] * dy),
        )
        expected = touched(original, bbox, TILE)
    text = ",".join(map(str, bbox))
    told = run_json("query", scenes / "dem.flac", f"--bbox={text}")
    assert [tile["id"] for tile in told["tiles"]] == expected
    spans = [tile["byte_range"] for tile in told["tiles"]]
    assert told["tile_bytes"] == sum(last - first + 1 for first, last in spans)
    assert told["range_bytes"] == sum(b - a + 1 for a, b in told["ranges"])
    for first, last in spans:
        assert any(a <= first and last <= b for a, b in told["ranges"])
    plain = run("query", scenes / "dem.flac", "--bbox", text).stdout
    assert f"{len(expected)} tile" in plain


@pytest.mark.parametrize("words", [["--bbox=-5,-4,-1,-2"], ["--bbox", "-5 -4 -1 -2"]])
def test_negative_coordinates(tmp_path, words):
    write_array(
        tmp_path / "a.flac",
        np.ones((10, 10), "u1"),
        crs="EPSG:4326",
        transform=(1.0, 0.0, -10.0, 0.0, -1.0, 0.0),
    )
    assert run_json("query", tmp_path / "a.flac", *words)["window"] == [5, 2, 4, 2]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--bbox", "1,2,3"),
        ("--bbox", "a,b,c,d"),
        ("--bbox", "1,2,nan,4"),
        ("--bbox", "3,0,1,1"),
        ("--bbox", ""),
        ("--window", "0,0,10"),
        ("--window", "0,0,0,5"),
        ("--window", "-1,0,5,5"),
        ("--window", "0.5,0,5,5"),
    ],
)
def test_text_that_is_no_box_is_a_usage_error(scenes, option, text):
    told = run("query", scenes / "dem.flac", f"{option}={text}", code=2).stderr
    assert option in told


def test_query_outside_says_where_the_raster_is(scenes):
    told = run("query", scenes / "dem.flac", "--bbox", "-9,-9,-8,-8", code=1).stderr
    assert told.count("\n") == 1
    assert "46.5" in told


# -- extract


def window_of(scenes, name, window, bands=None):
    with rasterio.open(scenes / f"{name}.tif") as original:
        return (
            original.read(bands, window=window),
            original.window_transform(window),
        )


def check_part(path, scenes, name, window, bands=None):
    """Compare an extracted part with rasterio's window of the original."""
    pixels, transform = window_of(scenes, name, rasterio.windows.Window(*window), bands)
    with rasterio.open(path) as part:
        np.testing.assert_array_equal(part.read(), pixels)
        np.testing.assert_allclose(list(part.transform), list(transform), rtol=1e-12)
        assert part.crs is not None


def test_extract_a_box(scenes, tmp_path):
    target = tmp_path / "part.tif"
    # Columns 130 to 200, rows 10 to 20, a tenth of a pixel inside.
    bbox = "601301,5099801,602009,5099899"
    told = run("extract", scenes / "s2.flac", "--bbox", bbox, "-o", target).stdout
    check_part(target, scenes, "s2", (130, 10, 71, 10))
    assert "71 x 10 pixels, 4 bands" in told
    words = ["--snap", "tiles", "--bands", "4,1", "--overwrite", "--savings"]
    told = run(
        "extract", scenes / "s2.flac", "--bbox", bbox, "-o", target, *words
    ).stdout
    check_part(target, scenes, "s2", (128, 0, 128, 128), [4, 1])
    assert "saved" in told
    assert names_in(tmp_path) == ["part.tif"]


@pytest.mark.parametrize(
    ("words", "window", "bands"),
    [
        (["--window", "3,4,200,7"], (3, 4, 200, 7), None),
        (["--window", "3,4,200,7", "--snap=tiles"], (0, 0, 256, 128), None),
        (["--last"], (256, 256, 24, 44), None),
        (["--center"], (128, 128, 128, 128), None),
        (["--tile-id", "0"], (0, 0, 128, 128), [1]),
        (["--tile-id", "35"], (256, 256, 24, 44), [4]),
        (["--tile-id", "10", "--bands", "3"], (128, 0, 128, 128), [3]),
    ],
)
def test_ways_to_say_what(scenes, tmp_path, words, window, bands):
    run("extract", scenes / "s2.flac", *words, "-o", tmp_path / "part.tif")
    check_part(tmp_path / "part.tif", scenes, "s2", window, bands)


def test_one_tile_of_a_url_is_two_requests(scenes, server, tmp_path):
    url, target = server.url_of("dem.flac"), tmp_path / "part.tif"
    told = run("extract", url, "--tile-id", 14, "-o", target, "--savings").stdout
    assert "in 2 requests" in told
    assert server.requests["/dem.flac"] == 2
    tile = run_json("spatial-info", scenes / "dem.flac")["tiles"][14]
    first, last = tile["byte_range"]
    assert server.bytes["/dem.flac"] == (64 << 10) + last - first + 1
    check_part(target, scenes, "dem", tile["window"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bbox", "-9,-9,-8,-8"], "46.5"),
        (["--window", "450,0,100,10"], "500 columns and 400 rows"),
        (["--tile-id", "16"], "0 to 15"),
        (["--last", "--bands", "2"], "bands 1 to 1"),
    ],
)
def test_outside_the_raster(scenes, tmp_path, words, says):
    told = run(
        "extract", scenes / "dem.flac", *words, "-o", tmp_path / "a.tif", code=1
    ).stderr
    assert says in told
    assert told.count("\n") == 1
    assert not names_in(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--last", "--center"],
        ["--last", "--bands", "0"],
        ["--last", "--bands", "x"],
        ["--tile-id", "-1"],
        ["--last", "--storage-option", "novalue"],
    ],
)
def test_words_that_are_wrong(scenes, tmp_path, words):
    target = tmp_path / "a.tif"
    run("extract", scenes / "dem.flac", *words, "-o", target, code=2)
    assert not target.exists()


def test_extract_overwrites_only_when_told(scenes, tmp_path):
    target = tmp_path / "a.tif"
    target.write_bytes(b"mine")
    words = ["extract", scenes / "dem.flac", "--last", "-o", target]
    assert "--overwrite" in run(*words, code=1).stderr
    assert target.read_bytes() == b"mine"
    assert run(*words, "--overwrite", "--quiet").output == ""


def test_storage_options_reach_the_file_system(scenes):
    from fsspec.implementations.memory import MemoryFileSystem

    data = (scenes / "dem.flac").read_bytes()
    MemoryFileSystem().pipe_file("/dem.flac", data)
    words = ["--storage-option", "skip_instance_cache=true"]
    assert run_json("info", "memory://dem.flac", *words)["file_bytes"] == len(data)


# -- compare


def test_compare(scenes, tmp_path):
    changed = tmp_path / "changed.tif"
    with rasterio.open(scenes / "s2.tif") as original:
        pixels, profile = original.read(), original.profile
    before = pixels.astype(int)
    pixels[2, 5, 5:8] += 9
    with rasterio.open(changed, "w", **profile) as out:
        out.write(pixels)
    told = run_json("compare", scenes / "s2.flac", changed, code=1)
    assert not told["equal"]
    assert [band["different_values"] for band in told["bands"]] == [0, 0, 3, 0]
    assert told["bands"][2]["max_difference"] == abs(pixels - before).max()
    plain = run("compare", scenes / "s2.flac", changed, code=1).stdout
    assert "DIFFERENT" in plain
    assert plain.endswith("different\n")


def test_compare_tells_pixels_and_metadata_apart(scenes, tmp_path):
    bare = tmp_path / "bare.tif"
    with rasterio.open(scenes / "dem.tif") as original:
        profile = original.profile | {"nodata": None}
        with rasterio.open(bare, "w", **profile) as out:
            out.write(original.read())
    told = run("compare", bare, scenes / "dem.tif").stdout
    assert "nodata" in told
    assert told.endswith("pixels equal, metadata different\n")
    assert run_json("compare", bare, scenes / "dem.tif", "--strict", code=1)
    same = run("compare", scenes / "dem.tif", scenes / "dem.flac", "--strict")
    assert same.stdout.endswith("\nequal\n")


# -- validate


def test_validate(scenes, tmp_path):
    path = scenes / "s2.flac"
    assert "valid (structure)" in run("validate", path).stdout
    assert "36 tiles decoded" in run("validate", path, "--full").stdout
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    (tmp_path / "bad.flac").write_bytes(data)
    run("validate", tmp_path / "bad.flac")
    told = run_json("validate", tmp_path / "bad.flac", "--full", code=1)
    assert not told["valid"]
    assert "(3, 2, 2)" in told["errors"][0]
    plain = run("validate", tmp_path / "bad.flac", "--full", code=1).stdout
    assert "NOT VALID" in plain
    words = ["validate", tmp_path / "bad.flac", "--full", "--quiet"]
    assert run(*words, code=1).output == ""


def test_validate_a_truncated_file(scenes, tmp_path):
    cut = tmp_path / "cut.flac"
    cut.write_bytes((scenes / "dem.flac").read_bytes()[:-1])
    assert "truncated" in run("validate", cut, code=1).stdout


# -- bad input, the same for every command that opens a file


COMMANDS = [
    ("info",),
    ("spatial-info",),
    ("query", "--bbox=0,0,1,1"),
    ("extract", "--last", "-o", "unused.tif"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_bad_files_are_one_line(scenes, tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cut = tmp_path / "cut.flac"
    cut.write_bytes((scenes / "dem.flac").read_bytes()[:500])
    (tmp_path / "empty.flac").touch()
    command, *options = words
    for path, says in (
        (tmp_path / "none.flac", "no such file"),
        (scenes / "dem.tif", "not a FLAC raster"),
        (tmp_path / "empty.flac", "not a FLAC raster"),
        (cut, "truncated"),
        (tmp_path, "directory"),
    ):
        told = run(command, path, *options, code=1).stderr
        assert told.startswith("Error: ")
        assert told.count("\n") == 1
        assert says in told.lower().replace("flac raster", "FLAC raster"), told
    assert not (tmp_path / "unused.tif").exists()


def test_convert_of_bad_files(scenes, tmp_path):
    cut = tmp_path / "cut.flac"
    cut.write_bytes((scenes / "dem.flac").read_bytes()[:500])
    (tmp_path / "words.txt").write_text("no raster")
    for source in ("none.tif", "cut.flac", "words.txt"):
        for target in ("out.flac", "out.tif"):
            result = CliRunner().invoke(
                main, ["convert", str(tmp_path / source), "-o", str(tmp_path / target)]
            )
            assert result.exit_code in (1, 2)
            assert not (tmp_path / target).exists()
    told = run("convert", tmp_path / "none.tif", "-o", tmp_path / "a.flac", code=1)
    assert told.stderr.count("No such file") == 1


def test_a_target_in_no_folder(scenes, tmp_path):
    target = tmp_path / "none" / "a.flac"
    told = run("convert", scenes / "dem.tif", "-o", target, code=1).stderr
    assert "cannot write" in told


def test_secrets_of_a_url_are_not_shown(server, tmp_path):
    url = server.url_of("dem.flac") + "?sig=hunter2secret"
    for words in (
        ("info", url),
        ("spatial-info", url),
        ("validate", url),
        ("query", url, "--bbox", "10,46.4,10.1,46.5"),
        ("extract", url, "--last", "-o", tmp_path / "a.tif"),
        ("convert", url, "-o", tmp_path / "b.tif"),
    ):
        result = run(*words)
        assert "hunter2" not in result.output, words
    refused = run("convert", url, "-o", tmp_path / "c.flac", code=2)
    missing = run("info", url.replace("dem", "none"), code=1)
    assert "hunter2" not in refused.output + missing.output


def test_a_tile_alone_is_a_raster(scenes, tmp_path):
    tile = run_json("spatial-info", scenes / "dem.flac")["tiles"][5]
    first, last = tile["byte_range"]
    data = (scenes / "dem.flac").read_bytes()[first : last + 1]
    (tmp_path / "tile.flac").write_bytes(data)
    assert run_json("info", tmp_path / "tile.flac")["bounds"] == tile["bbox"]
    assert "no checksums" in run("validate", tmp_path / "tile.flac", "--full").stdout
    run("convert", tmp_path / "tile.flac", "-o", tmp_path / "tile.tif")
    check_part(tmp_path / "tile.tif", scenes, "dem", tile["window"])


def test_url_that_is_not_there(server):
    told = run("info", server.url_of("none.flac"), code=1).stderr
    assert told.count("\n") == 1
    assert "none.flac" in told


def test_server_that_ignores_range(tmp_path):
    # Small files are taken whole; this one is above the limit for that.
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000), "uint8")
    write_array(tmp_path / "a.flac", noise, effort=0)
    with FaultServer(tmp_path) as server:
        server.faults = [ignore_range]
        told = run("info", server.url_of("a.flac"), code=1).stderr
    assert told.count("\n") == 1
    assert "range" in told.lower()


def test_numbers_in_tables_are_aligned(capsys):
    print_table(("n", "name"), [(1, "[red]a"), (100, "b")])
    assert "   1   [red]a" in capsys.readouterr().out


# -- for scripts and shells


def test_what_was_done_is_told_as_json(scenes, server, tmp_path):
    tif, flac = scenes / "dem.tif", tmp_path / "a.flac"
    told = run_json("convert", tif, "-o", flac)
    assert told["target_bytes"] == flac.stat().st_size
    assert told["source_bytes"] == tif.stat().st_size
    assert told["pixel_bytes"] == 400 * 500 * 2
    assert told["ratio"] == told["pixel_bytes"] / told["target_bytes"]
    url, part = server.url_of("dem.flac"), tmp_path / "part.tif"
    told = run_json("extract", url, "--window", "10,20,30,40", "-o", part)
    assert told["window"] == [10, 20, 30, 40]
    assert told["requests"] == server.requests["/dem.flac"]
    assert told["fetched_bytes"] == server.bytes["/dem.flac"]
    assert told["file_bytes"] == (scenes / "dem.flac").stat().st_size
    told = run_json("demo", tif, "--keep", tmp_path / "kept")
    assert told["equal"] is True
    assert told["flac_nbytes"] == (tmp_path / "kept" / "scene.flac").stat().st_size


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_the_shell_takes(tmp_path, shell):
    script = run("completion", shell).stdout
    assert "_FLAC_RASTER_COMPLETE" in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} on PATH")
    path = tmp_path / "script"
    path.write_text(script)
    subprocess.run([program, "-n", str(path)], check=True)


def test_bash_completes_commands_and_options(tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on PATH")
    program = tmp_path / "flac-raster"
    program.write_text(f"#!{sys.executable}\n{RUN}\n")
    program.chmod(0o755)
    ask = (
        'eval "$(flac-raster completion bash)"\n'
        "COMP_WORDS=($1); COMP_CWORD=$2; _flac_raster_completion flac-raster\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    where = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    for words, at, expected in (
        ("flac-raster spat", "1", {"spatial-info"}),
        ("flac-raster info --js", "2", {"--json"}),
        ("flac-raster convert --profile r", "3", {"raw"}),
    ):
        done = subprocess.run(
            [bash, "-c", ask, "bash", words, at],
            env=where,
            capture_output=True,
            text=True,
            check=True,
        )
        assert set(done.stdout.split()) == expected, done.stderr


@pytest.mark.parametrize("direction", ["read", "write", "write with dask"])
def test_what_is_missing_is_named_with_what_mends_it(scenes, direction):
    words = {
        "read": ["info", "s3://bucket/a.flac"],
        "write": ["convert", str(scenes / "dem.tif"), "-o", "s3://bucket/a.flac"],
        "write with dask": [],
    }[direction]
    code = f"import sys\nsys.modules['s3fs'] = None\nsys.argv[1:] = {words!r}\n{RUN}"
    if not words:
        code = (
            "import sys\nsys.modules['s3fs'] = None\n"
            "from flac_xarray.object_upload import begin_upload\n"
            "begin_upload('s3://bucket/a.flac', None, overwrite=True)"
        )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert 's3:// needs: pip install "flac-xarray[s3]"' in last
    assert not words or len(done.stderr.splitlines()) == 1


def test_the_list_of_commands_is_not_cut():
    for columns in (80, 120):
        result = CliRunner().invoke(main, ["--help"], terminal_width=columns)
        assert "..." not in result.output.partition("Commands:")[2]
