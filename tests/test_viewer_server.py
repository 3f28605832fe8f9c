"""The viewer's server, the command `view`, and what notebooks show."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from click.testing import CliRunner

from flac_xarray import FlacRaster, encode_array, write_array
from flac_xarray.cli import main
from flac_xarray.header import ArrayInfo
from flac_xarray.html_repr import tile_map_svg
from flac_xarray.range_server import RangeServer
from flac_xarray.sources import open_source
from flac_xarray.viewer import ViewServer, copy_page
from flac_xarray.viewer.page import PAGE_FOLDER

PIXELS = np.random.default_rng(2).integers(0, 255, (1, 300, 200)).astype("u1")


@pytest.fixture(scope="module")
def data():
    return encode_array(PIXELS, tile_size=128, crs="EPSG:32633")


def ask(url, field=None, host=None):
    """Status, fields and body of one answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    fields = {"Host": host or parts.netloc} | ({"Range": field} if field else {})
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=fields)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def file_of(url):
    """Address of the file that a page's address names."""
    parts = urlsplit(url)
    return f"http://{parts.netloc}{parse_qs(parts.query)['file'][0]}"


def test_the_page_and_ranges_of_any_source_are_served(data):
    with ViewServer() as server:
        url = server.show(open_source(data), "memory://some where/a b.flac")
        assert parse_qs(urlsplit(url).query)["name"] == ["a b.flac"]
        status, fields, body = ask(url)
        assert (status, b"main.js" in body) == (200, True)
        assert fields["Content-Type"].startswith("text/html")
        status, fields, body = ask(file_of(url), "bytes=4-103")
        assert (status, body) == (206, data[4:104])
        assert fields["Content-Range"] == f"bytes 4-103/{len(data)}"
        assert ask(file_of(url))[2] == data
        assert ask(file_of(url), f"bytes={len(data)}-")[0] == 416


def test_scripts_have_the_types_that_browsers_insist_on():
    with ViewServer() as server:
        kinds = {
            "main.js": "text/javascript",
            "style.css": "text/css",
            "vendor/libflacjs/libflac.min.wasm.wasm": "application/wasm",
        }
        for name, kind in kinds.items():
            status, fields, _ = ask(server.url_of(name))
            assert (status, fields["Content-Type"]) == (200, kind)


def test_what_is_not_to_be_seen_is_not_served(data):
    with ViewServer() as server:
        url = server.show(open_source(data), "a.flac")
        assert ask(url, host="evil.example")[0] == 421
        assert ask(file_of(url), host="localhost")[0] == 421
        for name in ("server.py", "../reader.py", "data/a.flac", "%2e%2e/reader.py"):
            assert ask(server.url_of(name))[0] == 404
        names = {
            urlsplit(file_of(server.show(open_source(data), "a"))).path for _ in "ab"
        }
        assert len(names) == 2


def test_errors_of_a_source_are_told(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(bytes(5000))
    with ViewServer() as server:
        with open_source(path) as source:
            url = server.show(source, str(path))
            path.write_bytes(bytes(100))
            status, _, body = ask(file_of(url), "bytes=0-50")
        assert status == 502
        assert b"a.flac" in body


def test_a_copy_of_the_page_is_all_that_it_needs(tmp_path):
    index = copy_page(tmp_path / "viewer")
    names = {p.relative_to(index.parent).as_posix() for p in index.parent.rglob("*")}
    assert {"index.html", "vendor/lzma1/LICENSE", "vendor/libflacjs/LICENSE"} <= names
    assert not [name for name in names if name.endswith((".py", ".pyc"))]
    for name in names:
        if name.endswith(".js") and not name.startswith("vendor"):
            text = (index.parent / name).read_text()
            assert not re.search(r"https?://(?!host)", text), name
            for module in re.findall(r'from "\./([^"]+)"', text):
                assert module in names, (name, module)
    assert not re.search(r'(src|href)="https?:', index.read_text())


def test_view_serves_until_it_is_interrupted(tmp_path, data):
    path = tmp_path / "scene.flac"
    path.write_bytes(data)
    command = [sys.executable, "-c", "from flac_xarray.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "view", str(path), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        url = process.stdout.readline().strip()
        assert ask(url)[0] == 200
        assert ask(file_of(url), "bytes=0-9")[2] == data[:10]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_view_relays_urls_of_other_servers(tmp_path, data):
    (tmp_path / "scene.flac").write_bytes(data)
    with RangeServer(tmp_path) as far, ViewServer() as server:
        source = open_source(far.url_of("scene.flac"))
        url = server.show(source, source.name)
        assert ask(file_of(url), "bytes=100-199")[2] == data[100:200]
        source.close()


def test_view_refuses_what_makes_no_sense(tmp_path):
    run = CliRunner().invoke
    assert run(main, ["view"]).exit_code == 2
    told = run(main, ["view", str(tmp_path / "none.flac"), "--no-browser"])
    assert (told.exit_code, "no such file" in told.output) == (1, True)
    assert run(main, ["view", "a.flac", "--direct"]).exit_code == 2
    done = run(main, ["view", "--copy-page", str(tmp_path / "page")])
    assert (done.exit_code, (tmp_path / "page" / "main.js").is_file()) == (0, True)


def test_view_in_a_notebook_is_a_frame(data):
    with FlacRaster.open(data) as raster:
        view = raster.view(height=321)
        assert "height:321px" in view._repr_html_()
        assert ask(file_of(view.url), "bytes=0-9")[2] == data[:10]


def parse_html(text):
    return ET.fromstring(text.replace("&nbsp;", " "))  # noqa: S314 - our own


def test_html_of_a_raster_says_what_it_holds(tmp_path, data):
    path = tmp_path / "<b>&.flac"
    path.write_bytes(data)
    with FlacRaster.open(path) as raster:
        requests = raster.stats.requests
        text = raster._repr_html_()
        assert raster.stats.requests == requests
    tree = parse_html(text)
    told = " ".join(tree.itertext())
    for part in (
        "<b>&.flac",
        "y 300, x 200",
        "6 of 1 x 128 x 128",
        "uint8",
        "EPSG:32633",
    ):
        assert part in told
    assert f"{PIXELS.nbytes / len(data):.2f}x" in told


def cells(text):
    return [e.attrib for e in ET.fromstring(text).iter() if e.tag.endswith("rect")]  # noqa: S314


def test_the_map_is_dark_where_tiles_are_large(tmp_path):
    pixels = np.zeros((256, 256), "u1")
    pixels[:128, 128:] = PIXELS[0, :128, :128]
    write_array(tmp_path / "a.flac", pixels, tile_size=128)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        found = cells(tile_map_svg(raster.array(), raster.index.tables[0]))
    assert len(found) == 4
    brightness = [sum(bytes.fromhex(cell["fill"][1:])) for cell in found]
    assert brightness.index(min(brightness)) == 1
    assert len(set(brightness)) == 2


def test_the_map_of_ten_million_tiles_is_small():
    info = ArrayInfo("a", "uint8", ("y", "x"), (3_200_000, 3_100_000), (1000, 1000))
    assert info.grid.n_tiles == 9_920_000
    text = tile_map_svg(info, None)
    assert len(text) < 60_000
    assert len(cells(text)) <= 24 * 24
    assert "several to a cell" in text
    assert tile_map_svg(ArrayInfo("a", "uint8", ("y", "x"), (0, 5), (2, 2)), None) == ""


def test_names_from_a_file_are_escaped():
    pixels = np.zeros((4, 4), "u1")
    with FlacRaster.open(
        encode_array(pixels, name="x", crs='<script>alert("1")</script>')
    ) as raster:
        text = raster._repr_html_()
    assert "<script" not in text


def test_every_file_of_the_page_is_small_and_readable():
    for path in PAGE_FOLDER.glob("*.js"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith("// "), path.name
        assert len(lines) <= 250, path.name
        assert max(map(len, lines)) <= 180, path.name
