"""Bad days while writing: the old file or nothing under the final name, never half."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr

import flac_xarray
from flac_xarray import (
    ArrayInfo,
    FlacRaster,
    FlacRasterWriter,
    Header,
    SourceError,
    convert_to_flac,
    convert_to_geotiff,
    encode_array,
    write_array,
)
from flac_xarray.range_server import RangeServer
from flac_xarray.sinks import FileSink

NOISE = np.random.default_rng(0).integers(0, 60000, (1, 400, 400)).astype("uint16")
OLD = b"the file that was there"
PROFILE = {"driver": "GTiff", "dtype": "uint16", "count": 1, "crs": "EPSG:32633"}
PLACE = rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)


def make_tif(path: Path, pixels=NOISE, **more) -> Path:
    _, height, width = pixels.shape
    size = {"height": height, "width": width, "transform": PLACE}
    with rasterio.open(path, "w", **(PROFILE | size | more)) as out:
        out.write(pixels)
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk(tmp_path):
    """A folder with room for 256 KiB."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("no mount on PATH")
    words = [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    # Lazily: a test that fails may hold a file there.
    subprocess.run([shutil.which("umount"), "-l", str(folder)], check=True)


# -- killed


def test_killed_writers_leave_the_old_file_or_nothing_and_the_next_run_cleans():
    script = [sys.executable, "-m", "tests.kill_writers", "--times", "36"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    *safe, control = told
    assert control["HALF A FILE"] > 0
    assert len(safe) == 8
    for found in safe:
        assert not {"HALF A FILE", "LOST"} & found.keys(), found
        assert found["after the last run, new"] == 1
        assert found["parts after the last run"] == 0
    assert sum(found["most"] for found in safe) > 0, "nobody was killed while writing"


def test_parts_of_living_writers_and_other_files_are_not_swept(tmp_path):
    target = tmp_path / "a.flac"
    others = {".a.flac.part", ".a.flac.0123456.part", ".b.flac.01234567.part", "a.part"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".a.flac.01234567.part").touch()
    (tmp_path / ".a.flac.01234567.part.aux.xml").touch()
    (tmp_path / ".a.flac.89abcdef.part.aux.xml").touch()
    living = FileSink(target)
    living.put(b"living", 0)
    assert set(names_in(tmp_path)) == others | {living.part.name}
    write_array(target, NOISE)
    assert set(names_in(tmp_path)) == others | {living.part.name, "a.flac"}
    with pytest.raises(FileExistsError):
        living.commit()
    living.abort()
    assert set(names_in(tmp_path)) == others | {"a.flac"}


def test_a_killed_upload_is_swept_by_the_next(tmp_path, monkeypatch):
    code = (
        "import os, flac_xarray.sinks as sinks\n"
        "sink = sinks.UploadSink('memory://faults/a.flac', None, overwrite=True)\n"
        "sink.put(b'half', 0)\n"
        "os.kill(os.getpid(), 9)"
    )
    where = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=where, check=False)
    assert done.returncode == -signal.SIGKILL
    (name,) = names_in(tmp_path)
    assert (tmp_path / name).stat().st_mode & 0o077 == 0
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write_array("memory://faults/a.flac", NOISE)
    assert names_in(tmp_path) == []
    with FlacRaster.open("memory://faults/a.flac") as raster:
        np.testing.assert_array_equal(raster.read(), NOISE)


def test_a_writer_that_nobody_closes_is_gone_when_python_ends(tmp_path):
    """Also where an interrupt comes before anybody could remove its file."""
    code = (
        "import os, sys\n"
        "from flac_xarray.sinks import FileSink\n"
        "done = FileSink('done.flac'); done.put(b'x', 0); done.commit()\n"
        "forgotten = FileSink('a.flac'); forgotten.put(b'x', 0)\n"
        "if not os.fork(): sys.exit(0)\n"
        "os.wait(); print(os.path.exists(forgotten.part)); raise KeyboardInterrupt"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("True\n", -signal.SIGINT)
    assert names_in(tmp_path) == ["done.flac"]


# -- the disk


@pytest.mark.parametrize("old", [None, OLD])
def test_a_full_disk_is_our_error_with_path_and_what_is_left(full_disk, old):
    target = full_disk / "a.flac"
    if old:
        target.write_bytes(old)
    with pytest.raises(SourceError, match=r"No space left on device") as caught:
        write_array(target, NOISE, tile_size=64, overwrite=True)
    told = str(caught.value)
    assert str(target) in told
    assert ("stays as it was" if old else "nothing is left") in told
    assert caught.value.errno == errno.ENOSPC
    assert names_in(full_disk) == (["a.flac"] if old else [])
    assert not old or target.read_bytes() == old


def test_a_full_disk_while_converting(full_disk, tmp_path):
    tif = make_tif(tmp_path / "a.tif")
    with pytest.raises(SourceError, match=r"a\.flac: No space left.*nothing is left"):
        convert_to_flac(tif, full_disk / "a.flac", tile_size=64)
    write_array(tmp_path / "a.flac", NOISE)
    target = full_disk / "b.tif"
    target.write_bytes(OLD)
    with (
        FlacRaster.open(tmp_path / "a.flac") as raster,
        pytest.raises(SourceError, match=r"cannot write .*b\.tif"),
    ):
        convert_to_geotiff(raster, target, overwrite=True)
    assert (names_in(full_disk), target.read_bytes()) == (["b.tif"], OLD)


def test_a_full_disk_while_dask_writes(full_disk):
    target = full_disk / "a.flac"
    target.write_bytes(OLD)
    lazy = xr.DataArray(NOISE, dims=("band", "y", "x"), name="a").chunk({"y": 64})
    with pytest.raises(SourceError, match=r"a\.flac: No space left") as caught:
        flac_xarray.write(lazy, target, overwrite=True, tile_size=64)
    assert "stays as it was" in str(caught.value)
    assert (names_in(full_disk), target.read_bytes()) == (["a.flac"], OLD)


def test_a_full_temporary_folder_while_writing_to_a_url(full_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    with pytest.raises(SourceError, match=r"memory://.*No space left.*full") as caught:
        write_array("memory://faults/full.flac", NOISE)
    assert str(full_disk) in str(caught.value)
    assert names_in(full_disk) == []


def test_who_goes_on_after_a_full_disk_gets_no_file(full_disk):
    """A tile that was not written must not become an empty one."""
    info = ArrayInfo("a", "uint16", ("y", "x"), (400, 400), (200, 400))
    target, ballast = full_disk / "a.flac", full_disk / "ballast"
    ballast.write_bytes(bytes(250_000))
    writer = FlacRasterWriter.create(target, Header((info,)), fill_missing=True)
    with pytest.raises(SourceError, match="No space"):
        writer.write(NOISE[0, :200])
    ballast.unlink()
    with pytest.raises(SourceError, match=r"a\.flac: a tile was not written"):
        writer.close()
    assert names_in(full_disk) == []


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_disk_that_fails_at_the_end(tmp_path, monkeypatch, call):
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    target = tmp_path / "a.flac"
    if call == "link":  # a file system without hard links
        write_array(target, NOISE)
        assert names_in(tmp_path) == ["a.flac"]
        return
    with pytest.raises(SourceError, match=r"a\.flac: Input/output error.*nothing"):
        write_array(target, NOISE)
    assert names_in(tmp_path) == []


def test_a_part_that_cannot_be_removed_is_named_in_the_error(tmp_path, monkeypatch):
    target = tmp_path / "a.flac"
    real = Path.unlink

    def locked(path: Path, **options: bool) -> None:
        if path.suffix == ".part":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", locked)
        with pytest.raises(RuntimeError) as caught:
            fail_inside(target)
    (note,) = caught.value.__notes__
    (left,) = names_in(tmp_path)
    assert left in note
    write_array(target, NOISE)
    assert names_in(tmp_path) == ["a.flac"]


# -- permission


@contextlib.contextmanager
def as_nobody():
    """Run as a user who may not write everywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


def test_no_permission():
    # Not below pytest's folders, which others may not enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old.flac").write_bytes(OLD)
        folder.chmod(0o555)
        for target in (folder / "new.flac", folder / "old.flac"):
            with as_nobody(), pytest.raises(SourceError, match="denied") as caught:
                write_array(target, NOISE, overwrite=True)
            assert str(target) in str(caught.value)
        assert names_in(folder) == ["old.flac"]
        assert (folder / "old.flac").read_bytes() == OLD
        folder.chmod(0o755)


def test_a_folder_is_refused_before_anything_is_encoded(tmp_path):
    (tmp_path / "a.flac").mkdir()
    with pytest.raises(SourceError, match=r"a\.flac: it is a folder"):
        FileSink(tmp_path / "a.flac", overwrite=True)
    assert names_in(tmp_path) == ["a.flac"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe"])
def test_what_is_no_file_is_refused_and_stays(tmp_path, kind):
    """A rename would put a file in its place: /dev/null, of all things."""
    target = tmp_path / "a"
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "socket":
            bound.bind(str(target))
        else:
            os.mkfifo(target)
        if kind.startswith("link"):
            target = tmp_path / "link"
            target.symlink_to("a")
        before = names_in(tmp_path)
        with pytest.raises(SourceError, match="it is a device, a pipe or a socket"):
            write_array(target, NOISE, overwrite=True)
    assert names_in(tmp_path) == before
    assert not (tmp_path / "a").is_file()


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    for folder in ("data", "links"):
        (tmp_path / folder).mkdir()
    real, link = tmp_path / "data" / "real.flac", tmp_path / "links" / "a.flac"
    link.symlink_to("../data/real.flac")
    with pytest.raises(FileExistsError):
        write_array(link, NOISE)
    for _ in range(2):  # first it points to nothing
        write_array(link, NOISE, overwrite=True)
        assert link.is_symlink()
        with FlacRaster.open(real) as raster:
            np.testing.assert_array_equal(raster.read(), NOISE)
        real.write_bytes(OLD)
    assert names_in(real.parent) == ["real.flac"]
    assert names_in(link.parent) == ["a.flac"]


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_who_may_read_a_file_stays_as_it_was(tmp_path, mode):
    target = tmp_path / "a.flac"
    target.write_bytes(OLD)
    target.chmod(mode)
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(target, owner, -1)
    write_array(target, NOISE, overwrite=True)
    found = target.stat()
    assert (found.st_mode & 0o777, found.st_uid) == (mode, owner)


# -- the source goes away


def truncate_after(path: Path, tiles: int):
    """A progress callback that cuts the source off after so many tiles."""
    done = [0]

    def progress(_nbytes: int) -> None:
        done[0] += 1
        if done[0] == tiles:
            os.truncate(path, 5000)

    return progress


def test_a_geotiff_that_is_cut_off_in_the_middle(tmp_path, monkeypatch):
    monkeypatch.setattr("flac_xarray.geotiff.to_flac.BLOCK_NBYTES", 64 * 400 * 2)
    tif = make_tif(tmp_path / "in.tif", blockysize=16)
    target = tmp_path / "a.flac"
    target.write_bytes(OLD)
    cut = truncate_after(tif, 1)
    with pytest.raises(SourceError, match=r"cannot read .*in\.tif"):
        convert_to_flac(
            tif, target, tile_size=64, overwrite=True, progress=cut, threads=1
        )
    assert names_in(tmp_path) == ["a.flac", "in.tif"]
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("how", ["truncated", "replaced", "deleted"])
def test_a_flac_raster_that_vanishes_in_the_middle(tmp_path, monkeypatch, how):
    monkeypatch.setattr("flac_xarray.geotiff.plan.BLOCK_NBYTES", 64 * 64 * 2)
    source, target = tmp_path / "in.flac", tmp_path / "a.tif"
    other = encode_array(NOISE[:, ::-1], tile_size=64)
    target.write_bytes(OLD)
    calls = []

    def vanish(_nbytes: int) -> None:
        calls.append(1)
        if len(calls) == 2:
            if how == "truncated":
                os.truncate(source, 70_000)
            elif how == "replaced":
                (tmp_path / "other").write_bytes(other)
                (tmp_path / "other").replace(source)
            else:
                source.unlink()

    place = {"crs": "EPSG:32633", "transform": PLACE[:6]}
    write_array(source, NOISE, tile_size=64, **place)
    with FlacRaster.open(source) as raster:
        try:
            convert_to_geotiff(raster, target, overwrite=True, progress=vanish)
        except flac_xarray.FlacRasterError:
            assert target.read_bytes() == OLD
        else:  # the open file is still the old one: whole, or it would be an error
            assert how != "truncated"
            with rasterio.open(target) as back:
                np.testing.assert_array_equal(back.read(), NOISE)
    assert not [name for name in names_in(tmp_path) if name.endswith(".part")]


# -- others


def write_repeatedly(target: Path, value: int, times: int) -> None:
    pixels = np.full((1, 200, 200), value, "uint16") ^ NOISE[:, :200, :200]
    for _ in range(times):
        write_array(target, pixels, tile_size=64, overwrite=True, threads=1)


def test_two_writers_to_one_path(tmp_path):
    """Readers see one whole file after the other; nobody sweeps the other's part."""
    target = tmp_path / "a.flac"
    write_repeatedly(target, 0, 1)
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=write_repeatedly, args=(target, value, 8))
        for value in (1, 2)
    ]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        with FlacRaster.open(target.read_bytes()) as raster:
            value = raster.read() ^ NOISE[:, :200, :200]
        assert (value == value[0, 0, 0]).all()
        seen.add(int(value[0, 0, 0]))
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {0, 1, 2}
    assert names_in(tmp_path) == ["a.flac"]


def test_of_two_writers_without_overwrite_one_wins(tmp_path):
    target = tmp_path / "a.flac"
    start, outcomes = threading.Barrier(4), []

    def write(value: int) -> None:
        start.wait()
        try:
            write_array(target, NOISE ^ value, tile_size=128, threads=1)
            outcomes.append(value)
        except FileExistsError:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (value for value in outcomes if value is not None)
    with FlacRaster.open(target) as raster:
        np.testing.assert_array_equal(raster.read(), NOISE ^ winner)
    assert names_in(tmp_path) == ["a.flac"]


def fail_inside(target: Path) -> None:
    info = ArrayInfo("a", "uint16", ("y", "x"), (400, 400), (200, 400))
    with FlacRasterWriter.create(target, Header((info,)), overwrite=True) as writer:
        writer.write(NOISE[0, :200])
        msg = "user code"
        raise RuntimeError(msg)


def test_an_exception_in_user_code_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.flac"
    target.write_bytes(OLD)
    with pytest.raises(RuntimeError, match="user code"):
        fail_inside(target)
    assert (names_in(tmp_path), target.read_bytes()) == (["a.flac"], OLD)


def test_an_exception_in_a_dask_task_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.flac"
    target.write_bytes(OLD)

    def broken(block: np.ndarray, block_info=None) -> np.ndarray:
        if block_info and block_info[0]["chunk-location"][1] == 1:
            msg = "user code"
            raise RuntimeError(msg)
        return block

    lazy = xr.DataArray(NOISE, dims=("band", "y", "x")).chunk({"y": 200}).data
    array = xr.DataArray(
        lazy.map_blocks(broken, dtype="uint16"), dims=("band", "y", "x"), name="a"
    )
    with pytest.raises(RuntimeError, match="user code"):
        flac_xarray.write(array, target, overwrite=True)
    assert (names_in(tmp_path), target.read_bytes()) == (["a.flac"], OLD)


def test_files_hold_no_path_of_the_machine_and_no_credential(tmp_path):
    folder = tmp_path / "a-folder-with-a-telling-name"
    folder.mkdir()
    tif = make_tif(folder / "in.tif")
    vrt = tmp_path / "in.vrt"
    rasterio.shutil.copy(tif, vrt, driver="VRT")
    assert folder.name in vrt.read_text()
    convert_to_flac(vrt, folder / "vrt.flac")
    convert_to_flac(tif, folder / "a.flac")
    with FlacRaster.open(folder / "a.flac") as raster:
        convert_to_geotiff(raster, folder / "b.tif")
    with RangeServer(folder) as server:
        url = server.url_of("a.flac") + "?sig=hunter2secret"
        with xr.open_dataset(url, engine="flacraster") as dataset:
            flac_xarray.write(dataset.load(), folder / "b.flac")
        with FlacRaster.open(url) as raster:
            convert_to_geotiff(raster, folder / "c.tif")
    words = (folder.name, tempfile.gettempdir(), "127.0.0.1", "localhost", "hunter2")
    for name in ("a.flac", "vrt.flac", "b.flac", "b.tif", "c.tif"):
        data = (folder / name).read_bytes()
        for word in words:
            assert word.encode() not in data, (name, word)
