"""Chained URLs: archives and caches over a web server, and what they cost."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import fsspec
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from flac_xarray import FlacRaster, FlacRasterError, Window, write_array
from flac_xarray.cli import main
from flac_xarray.errors import SourceChangedError
from flac_xarray.sources import HttpSource, open_source
from tests.servers import FaultServer

TOKEN = "t0kenXYZ"  # noqa: S105
PIXELS = np.random.default_rng(6).integers(-(2**15), 2**15, (1, 512, 512), "int16")
OTHERS = PIXELS[:, ::-1].copy()


# fsspec's block cache leaves the file of its memory map to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@dataclass(frozen=True)
class Chain:
    """A chained URL; `links` stand before the server's."""

    links: str
    file: str = "a.flac"


CHAINS = {
    "simplecache": Chain("simplecache"),
    "filecache": Chain("filecache"),
    "blockcache": Chain("blockcache"),
    "dir": Chain("dir", ""),
    "zip": Chain("zip://in/a.flac", "stored.zip"),
    "packed-zip": Chain("zip://in/a.flac", "packed.zip"),
    "tar": Chain("tar://in/a.flac", "a.tar"),
    "packed-tar": Chain("tar://in/a.flac", "a.tar.gz"),
    "zip-simplecache": Chain("zip://in/a.flac::simplecache", "stored.zip"),
    "tar-simplecache": Chain("tar://in/a.flac::simplecache", "a.tar"),
    "zip-zip": Chain("zip://in/a.flac::zip://stored.zip", "both.zip"),
}
CACHES = ("simplecache", "filecache", "blockcache")


def serve(folder, pixels, name="a.flac"):
    """Write the raster, and archives with it."""
    write_array(folder / "new", pixels, tile_size=128)
    data = (folder / "new").read_bytes()
    (folder / "new").unlink()
    (folder / name).write_bytes(data)
    for archive, how in (
        ("stored.zip", zipfile.ZIP_STORED),
        ("packed.zip", zipfile.ZIP_DEFLATED),
    ):
        with zipfile.ZipFile(folder / archive, "w", how) as writer:
            writer.writestr("first.txt", "x" * 5000)
            writer.writestr("in/a.flac", data)
            writer.writestr("last.txt", "x" * 5000)
    with zipfile.ZipFile(folder / "both.zip", "w") as writer:
        writer.write(folder / "stored.zip", "stored.zip")
    for archive, how in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(folder / archive, how) as writer:
            for inner, content in (("first", b"x" * 5000), ("in/a.flac", data)):
                info = tarfile.TarInfo(inner)
                info.size = len(content)
                writer.addfile(info, io.BytesIO(content))


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    serve(folder, PIXELS)
    with FaultServer(folder) as server:
        yield server


@pytest.fixture(params=CHAINS)
def chain(request):
    return CHAINS[request.param]


def url_of(chain, server):
    last = server.url_of(chain.file)
    if chain.links == "dir":
        return f"dir://a.flac::{last.rstrip('/')}"
    return f"{chain.links}::{last}"


def options_for(chain, tmp_path):
    """Options of each link: a header for the server, folders for caches."""
    options = {"http": {"headers": {"X-Token": TOKEN}}}
    for cache in CACHES:
        if cache in chain.links.split("::"):
            options[cache] = {"cache_storage": str(tmp_path / "cache")}
    return options


def test_pixels(chain, server, tmp_path):
    url, options = url_of(chain, server), options_for(chain, tmp_path)
    with FlacRaster.open(url, storage_options=options) as raster:
        assert TOKEN not in f"{raster!r} {raster.name}"
        found = raster.read(Window(100, 50, 200, 300), threads=4)
        assert np.array_equal(found, PIXELS[:, 100:300, 50:350])
    assert all(fields["X-Token"] == TOKEN for _, fields in server.seen)
    assert server.seen


def test_dask(chain, server, tmp_path):
    url, options = url_of(chain, server), options_for(chain, tmp_path)
    with xr.open_dataset(url, engine="flacraster", storage_options=options) as ds:
        array = ds.band_data
        for scheduler in ("threads", "synchronous"):
            again = pickle.loads(pickle.dumps(array))
            assert np.array_equal(again.compute(scheduler=scheduler), PIXELS)
        parts = [array[:, k : k + 128] for k in range(0, 512, 128)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda part: part.compute(), parts))
        assert np.array_equal(np.concatenate(found, axis=1), PIXELS)


def test_several_readers_at_once(chain, server, tmp_path):
    # Sources of their own, perhaps over one file system with one position.
    url, options = url_of(chain, server), options_for(chain, tmp_path)
    start = threading.Barrier(4)

    def read(number):
        start.wait()
        with FlacRaster.open(url, storage_options=options, cache_nbytes=0) as raster:
            return raster.read(Window(number * 128, 0, 128, 512))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, range(4)))
    assert np.array_equal(np.concatenate(found, axis=1), PIXELS)


def test_replaced(chain, server, tmp_path):
    url, options = url_of(chain, server), options_for(chain, tmp_path)
    with FlacRaster.open(url, storage_options=options, cache_nbytes=0) as raster:
        first = raster.read(Window(0, 0, 128, 128))
        assert np.array_equal(first, PIXELS[:, :128, :128])
        serve(server.directory, OTHERS)
        # The version that was opened, from where it is kept, or an error: no mixture.
        try:
            found = raster.read()
        except FlacRasterError:
            return
        assert np.array_equal(found, PIXELS)


@pytest.mark.parametrize("name", ["zip", "tar"])
def test_stored_members_cost_their_tiles(name, server, tmp_path):
    chain = CHAINS[name]
    source = open_source(url_of(chain, server), options_for(chain, tmp_path))
    before = len(server.seen)  # fsspec has read the archive's directory
    with FlacRaster.open(source, cache_nbytes=0) as raster:
        assert len(server.seen) - before == 1
        plan = raster.plan((slice(0, 1), slice(384, 512), slice(384, 512)))
        nbytes = raster.stats.nbytes
        raster.read(Window(384, 384, 128, 128))
        assert len(server.seen) - before == 2
        assert raster.stats.nbytes - nbytes == plan.tile_nbytes
        serve(server.directory, OTHERS)
        with pytest.raises(SourceChangedError, match=r"http://.*replaced"):
            raster.read(Window(0, 0, 128, 128))


def test_archive_replaced_before_the_first_read(server, tmp_path):
    chain = CHAINS["zip"]
    source = open_source(url_of(chain, server), options_for(chain, tmp_path))
    with zipfile.ZipFile(server.directory / "stored.zip", "w") as writer:
        writer.writestr("other.txt", "y" * 2_000_000)
    with pytest.raises(SourceChangedError, match=r"zip://in/a\.flac::http.*replaced"):
        source.read_prefix(100)


def test_long_extra_field(tmp_path):
    info = zipfile.ZipInfo("a.flac")
    info.extra = b"\xfe\xca" + (5000).to_bytes(2, "little") + bytes(5000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writer:
        writer.writestr(info, b"abcdef" * 999)
    source = open_source(f"zip://a.flac::{tmp_path / 'a.zip'}")
    assert bytes(source.read_prefix(6).data) == b"abcdef"
    assert bytes(source.read_range(3, 9)) == b"defabc"
    assert source.read_prefix(10**6).size == 6 * 999


def test_missing_member(server):
    for archive in ("stored.zip", "packed.zip", "a.tar", "a.tar.gz"):
        link = f"{'tar' if 'tar' in archive else 'zip'}://none.flac"
        with pytest.raises(FileNotFoundError, match=r"none\.flac"):
            open_source(f"{link}::{server.url_of(archive)}").read_prefix(10)


def test_dir_is_the_server_itself(server):
    source = open_source(url_of(CHAINS["dir"], server))
    assert type(source) is HttpSource


def test_reference(server, tmp_path):
    data = (server.directory / "a.flac").read_bytes()
    url = server.url_of("stored.zip")
    at = (server.directory / "stored.zip").read_bytes().index(data[:64])
    table = {"a.flac": [url, at, len(data)]}
    (tmp_path / "table.json").write_text(json.dumps(table))
    options = {"fo": str(tmp_path / "table.json"), "remote_protocol": "http"}
    with xr.open_dataset(
        "reference://a.flac", engine="flacraster", storage_options=options
    ) as ds:
        assert np.array_equal(ds.band_data, PIXELS)


def test_open_files_of_fsspec(server):
    url = url_of(CHAINS["zip"], server)
    with FlacRaster.open(fsspec.open(url)) as raster:
        assert np.array_equal(raster.read(), PIXELS)
    with fsspec.open(url) as file, FlacRaster.open(file) as raster:
        assert np.array_equal(raster.read(), PIXELS)


@pytest.mark.parametrize("name", ["simplecache", "zip", "tar"])
def test_command_line(name, server, tmp_path):
    chain = CHAINS[name]
    url = url_of(chain, server)
    run = CliRunner().invoke
    told = run(main, ["info", url, "--json"])
    assert told.exit_code == 0, told.output
    assert "512" in told.output
    target = tmp_path / "out.tif"
    done = run(main, ["extract", url, "-o", str(target), "--window", "0,0,9,9"])
    assert done.exit_code == 0, done.output
