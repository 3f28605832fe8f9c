"""`flac-raster serve`: Debian's GDAL, curl's rules and hostile requests."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio

from flac_xarray import FlacRaster, write_array
from flac_xarray.tiff_server import MAX_OPEN, TiffServer
from flac_xarray.virtual_file import VirtualFile
from tests.test_gdal import as_flac, damaged
from tests.test_geotiff import COLOURS, PLACED, REAL_TIFS, VOID, make_tif, scene, tagged

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning"),
]

needs_gdal = pytest.mark.skipif(
    shutil.which("gdalinfo") is None, reason="gdalinfo (gdal-bin) is not on PATH"
)


@contextmanager
def serving(*words):
    """Run the command in a process of its own; give its URL."""
    command = [Path(sys.executable).with_name("flac-raster"), "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        yield re.search(r"http://\S+", line)[0]
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 143


def gdal(program, *words) -> str:
    done = subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def checksums(source) -> list[str]:
    """What gdalinfo says of every band, its overviews and its mask."""
    lines = gdal("gdalinfo", "-checksum", source).splitlines()
    return [line.strip() for line in lines if "hecksum" in line]


def make_scenes(folder) -> dict[str, Path]:
    """GeoTIFFs that show what gdalinfo could get wrong."""
    large = scene("int16", count=3, height=700, width=600)
    scenes = {
        "bands": make_tif(folder / "bands.tif", large, **PLACED, nodata=-5),
        "mask": make_tif(folder / "mask.tif", scene(count=3), **PLACED, _mask=VOID),
        "rgb": make_tif(
            folder / "rgb.tif", scene(count=3, height=300, width=280), **PLACED,
            photometric="RGB",
        ),
        "complex": make_tif(
            folder / "complex.tif", scene("complex_int16"), **PLACED,
            dtype="complex_int16",
        ),
        "colours": make_tif(
            folder / "colours.tif", scene(count=1), **PLACED, photometric="PALETTE",
            _write_colormap=[tagged(1, COLOURS)],
        ),
    }  # fmt: skip
    for name in ("bands", "rgb"):
        with rasterio.open(scenes[name], "r+") as out:
            out.build_overviews([2, 4])
    return scenes


@needs_gdal
def test_another_gdal_reads_what_is_served(tmp_path):
    scenes = make_scenes(tmp_path)
    served = tmp_path / "served"
    (served / "deep").mkdir(parents=True)
    for name, source in scenes.items():
        as_flac(source, served / "deep" if name == "rgb" else served, tile_size=256)
    with serving(served) as url:
        for name, source in scenes.items():
            below = "deep/" if name == "rgb" else ""
            far = f"/vsicurl/{url}{below}{name}.tif"
            found = checksums(far)
            assert found
            assert found == checksums(source)
        far, near = f"/vsicurl/{url}bands.tif", scenes["bands"]
        for program, *words in (
            ("gdal_translate", "-q", "-srcwin", 100, 200, 333, 222),
            ("gdalwarp", "-q", "-t_srs", "EPSG:4326", "-r", "bilinear"),
        ):
            results = [tmp_path / f"{k}.out.tif" for k in range(2)]
            for source, result in zip((far, near), results, strict=True):
                result.unlink(missing_ok=True)
                gdal(program, *words, source, result)
            assert checksums(results[0]) == checksums(results[1])


@needs_gdal
@pytest.mark.real
def test_another_gdal_reads_every_real_raster(real_data, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    for name in REAL_TIFS:
        as_flac(real_data / name, served)
    with serving(served) as url:
        wrong = [
            name
            for name in REAL_TIFS
            if checksums(f"/vsicurl/{url}{name}") != checksums(real_data / name)
        ]
    # Of JPEG each libjpeg makes other pixels: ours are those of rasterio's.
    assert wrong == ["meta-goes-geos.tif"]


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    write_array(folder / "a b.flac", scene("int16", height=300, width=400))
    (folder / "secret.txt").write_text("not to be served")
    (tmp_path / "outside.flac").write_bytes((folder / "a b.flac").read_bytes())
    (folder / "link.flac").symlink_to(tmp_path / "outside.flac")
    with TiffServer([folder]) as running:
        yield running


def ask(server, path="/a%20b.tif", method="GET", **fields):
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    with closing(connection):
        connection.request(
            method, path, headers={k.replace("_", "-"): v for k, v in fields.items()}
        )
        with connection.getresponse() as answer:
            return answer, answer.read()


def test_the_whole_file_and_ranges_of_it_are_the_virtual_file(server):
    with FlacRaster.open(server.roots[""] / "a b.flac") as raster:
        file = VirtualFile(raster)
        expected = file.read(0, file.size)
    answer, body = ask(server)
    assert (answer.status, body) == (200, expected)
    head, nothing = ask(server, method="HEAD")
    assert (head.status, nothing) == (200, b"")
    assert head.headers["Content-Length"] == str(len(expected))
    assert head.headers["Accept-Ranges"] == "bytes"
    size, rng = len(expected), np.random.default_rng(0)
    cases = [(0, 0), (0, size - 1), (4095, 4096), (size - 1, size + 10)]
    cases += [tuple(sorted(rng.integers(0, size, 2).tolist())) for _ in range(30)]
    for first, last in cases:
        answer, body = ask(server, Range=f"bytes={first}-{last}")
        last = min(last, size - 1)  # noqa: PLW2901
        assert (answer.status, body) == (206, expected[first : last + 1])
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    assert ask(server, Range="bytes=-7")[1] == expected[-7:]
    assert ask(server, method="HEAD", Range="bytes=0-9")[0].status == 206
    answer, body = ask(server, Range=f"bytes={size}-")
    assert (answer.status, body) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_etag_and_conditions(server):
    etag = ask(server, method="HEAD")[0].headers["ETag"]
    assert etag == ask(server)[0].headers["ETag"]
    assert ask(server, If_None_Match=etag)[0].status == 304
    assert ask(server, Range="bytes=0-9", If_Range=etag)[0].status == 206
    assert ask(server, Range="bytes=0-9", If_Range='"other"')[0].status == 200
    write_array(
        server.roots[""] / "a b.flac", scene("int16", height=300, width=401),
        overwrite=True,
    )  # fmt: skip
    again, body = ask(server)
    assert again.headers["ETag"] != etag
    assert ask(server, Range="bytes=0-9", If_Range=etag)[0].status == 200
    with rasterio.MemoryFile(body) as memory, memory.open() as found:
        assert found.width == 401


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.tif", "/%2e%2e/outside.tif", "/..%2foutside.tif", "/link.tif",
        "/secret.txt", "/secret.tif", "/a%20b.flac", "/none.tif", "//etc/passwd",
        "/a%20b.tif/x.tif", "/%00.tif", "/..%5coutside.tif", "/a%20b", "/none/",
        "/....//outside.tif", "/%252e%252e/outside.tif",
    ],
)  # fmt: skip
def test_nothing_else_is_served(server, path):
    for method in ("GET", "HEAD"):
        answer, body = ask(server, path, method)
        assert (answer.status, body) == (404, b"")


def test_requests_under_another_name_are_refused(server):
    assert ask(server, Host="attacker.example")[0].status == 403
    assert ask(server, Host="attacker.example", method="HEAD")[0].status == 403
    assert ask(server, Host=f"localhost:{server.server_address[1]}")[0].status == 200
    for method in ("PUT", "POST", "DELETE"):
        assert ask(server, method=method)[0].status == 501


def test_only_this_machine_by_default(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert "Access-Control-Allow-Origin" not in ask(server)[0].headers


def test_browsers_where_they_are_let(tmp_path):
    write_array(tmp_path / "a.flac", scene())
    with TiffServer([tmp_path], origin="https://map.example") as running:
        answer, _ = ask(running, "/a.tif", "OPTIONS")
        assert answer.status == 204
        assert "Range" in answer.headers["Access-Control-Allow-Headers"]
        answer, _ = ask(running, "/a.tif", Range="bytes=0-3")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://map.example"


def test_folders_are_lists_of_links(server):
    answer, body = ask(server, "/")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert re.findall(r'href="([^"]*)"', body.decode()) == ["a%20b.tif", "link.tif"]


def test_several_paths_are_served_by_name(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_array(tmp_path / folder / "a.flac", scene())
    with TiffServer([tmp_path / "one", tmp_path / "two" / "a.flac"]) as running:
        for path in ("/one/a.tif", "/a.tif"):
            assert ask(running, path, "HEAD")[0].status == 200
        assert ask(running, "/two/a.tif")[0].status == 404
        assert re.findall(r'href="([^"]*)"', ask(running, "/")[1].decode()) == [
            "a.tif", "one",
        ]  # fmt: skip
    with pytest.raises(ValueError, match="the same name"):
        TiffServer([tmp_path / "one" / "a.flac", tmp_path / "two" / "a.flac"])
    with pytest.raises(FileNotFoundError):
        TiffServer([tmp_path / "none"])


def test_damage_is_told_before_the_head_or_ends_the_answer(tmp_path):
    pixels = scene("int16", count=1, height=1600, width=1500)
    write_array(tmp_path / "whole.flac", pixels, tile_size=512)
    (tmp_path / "a.flac").write_bytes(damaged(tmp_path / "whole.flac", (0, 3, 2)))
    (tmp_path / "text.flac").write_bytes(b"nothing of the kind" * 100)
    told = []
    with TiffServer([tmp_path], tell=told.append) as running:
        size = int(ask(running, "/a.tif", "HEAD")[0].headers["Content-Length"])
        answer, body = ask(running, "/a.tif", Range=f"bytes={size - 100}-{size - 1}")
        assert answer.status == 500
        assert b"tile (0, 3, 2)" in body
        with pytest.raises(http.client.IncompleteRead):
            ask(running, "/a.tif")
        answer, body = ask(running, "/text.tif")
        assert answer.status == 500
        assert b"is not a FLAC raster" in body
    assert len(told) == 3


def test_few_rasters_stay_open_however_many_are_asked_for(tmp_path):
    write_array(tmp_path / "0.flac", scene())
    for k in range(1, MAX_OPEN + 9):
        shutil.copy(tmp_path / "0.flac", tmp_path / f"{k}.flac")
    with TiffServer([tmp_path]) as running:
        for k in range(MAX_OPEN + 9):
            assert ask(running, f"/{k}.tif", Range="bytes=0-9")[0].status == 206
        descriptors = len(running.shelf._open)  # noqa: SLF001 - what is to be bounded
        assert descriptors == MAX_OPEN
        assert not running.requests


def test_a_client_that_goes_away_is_no_trouble(server):
    for _ in range(5):
        with socket.create_connection(server.server_address, timeout=5) as client:
            client.sendall(b"GET /a%20b.tif HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.recv(10)
    assert ask(server, method="HEAD")[0].status == 200
