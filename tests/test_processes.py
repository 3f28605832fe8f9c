"""Processes: forked and spawned, short of memory, and ending in the midst of reading.

What is asked of a process is done in a fresh one, with a time after which it is ended:
a test fails where a process hangs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import dask
import fsspec
import numpy as np
import pytest
import xarray as xr

from flac_xarray import (
    FlacRaster,
    FlacRasterWriter,
    encode_array,
    fetch_ahead,
    write,
    write_array,
)
from flac_xarray.crew import Crew
from flac_xarray.errors import SourceError
from flac_xarray.range_server import RangeServer
from flac_xarray.sources import FetchLimits, fetching, loop_source, open_source

RNG = np.random.default_rng(5)
PIXELS = np.cumsum(RNG.integers(-9, 10, (2, 300, 330)), -1).astype("int16")
LARGE = np.cumsum(RNG.integers(-9, 10, (1, 1500, 1600)), -1).astype("int16")
ENDED_SECONDS = 300
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    for name, pixels, tile in (("a", PIXELS, 32), ("large", LARGE, 128)):
        write_array(folder / f"{name}.flac", pixels, tile_size=tile)
        np.save(folder / f"{name}.npy", pixels)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with RangeServer(folder) as server:
        yield server


@pytest.fixture(params=["file", "http"])
def target(request, folder):
    """Where ``a.flac`` is."""
    if request.param == "file":
        return str(folder / "a.flac")
    return f"{request.getfixturevalue('server').url}/a.flac"


def run(module: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests in a process of its own."""
    # Python 3.12 and later say of every fork here what these tests are about.
    quiet = "ignore:This process:DeprecationWarning"
    return subprocess.run(
        [sys.executable, "-W", quiet, "-m", f"tests.{module}", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=ENDED_SECONDS,
        check=False,
    )


# -- forked


@can_fork
@pytest.mark.parametrize("how", [(), ("held",)])
def test_children_forked_while_threads_read_and_open(target, folder, how):
    """With ``held``, other threads hold all locks and are opening, at every fork."""
    done = run("forked_reads", target, folder / "a.npy", 2, *how, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


@can_fork
def test_children_read_from_memory(folder):
    words = (folder / "a.flac", folder / "a.npy", 2, "held", "memory")
    done = run("forked_reads", *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


@can_fork
def test_a_forked_child_neither_ends_nor_spoils_its_parents_file(folder, tmp_path):
    with FlacRaster.open(folder / "a.flac") as raster:
        header = raster.header
    with FlacRasterWriter.create(tmp_path / "a.flac", header) as writer:
        writer.write(PIXELS[:, :160])
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            told = b"nothing"
            try:
                with writer:
                    writer.write(PIXELS[:, 160:], offset=(0, 160, 0))
            except SourceError as error:
                told = str(error).encode()
            finally:
                os.write(theirs, told)
                os._exit(0)
        os.waitpid(pid, 0)
        assert b"its fork" in os.read(ours, 1000)
        os.close(ours)
        os.close(theirs)
        writer.write(PIXELS[:, 160:], offset=(0, 160, 0))
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)


# -- spawned


def total(array: xr.DataArray) -> tuple[int, str]:
    return int(array.astype("int64").sum()), repr(array.encoding)


def total_of_raster(raster: FlacRaster) -> tuple[int, str]:
    return int(raster.read().astype("int64").sum()), repr(raster)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("options", [{"chunks": {}}, {"chunks": None, "cache": False}])
def test_what_is_opened_here_is_read_in_a_new_process(target, folder, method, options):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    data = (folder / "a.flac").read_bytes()
    context = multiprocessing.get_context(method)
    with (
        ProcessPoolExecutor(1, context) as pool,
        xr.open_dataset(target, engine="flacraster", **options) as ds,
        FlacRaster.open(target) as raster,
        FlacRaster.open(data) as in_memory,
    ):
        sums = [
            pool.submit(total, ds.band_data),
            pool.submit(total, ds.band_data[:, 7:, ::3]),
            pool.submit(total_of_raster, raster),
            pool.submit(total_of_raster, in_memory),
        ]
        found = [job.result(ENDED_SECONDS)[0] for job in sums]
        with dask.config.set(scheduler="processes", pool=pool):
            graph = ds.band_data.chunk({"y": 32}).astype("int64").sum().compute()
    whole = PIXELS.astype("int64")
    assert found == [whole.sum(), whole[:, 7:, ::3].sum(), whole.sum(), whole.sum()]
    assert graph == whole.sum()


def test_a_write_planned_here_is_done_in_a_new_process(folder, tmp_path):
    ds = xr.open_dataset(folder / "a.flac", engine="flacraster", chunks={})
    task = write(ds, tmp_path / "b.flac", tile_size=32, compute=False)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as pool:
        dask.compute(task, scheduler="processes", pool=pool)
    with FlacRaster.open(tmp_path / "b.flac") as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)


def test_what_cannot_be_pickled_says_so(folder):
    with (
        (folder / "a.flac").open("rb") as file,
        FlacRaster.open(file) as raster,
        pytest.raises(TypeError, match="cannot pickle"),
    ):
        multiprocessing.reduction.ForkingPickler.dumps(raster)


def test_credentials_are_not_shown_by_what_is_pickled(folder):
    fs = fsspec.filesystem("http", client_kwargs={"headers": {"X-Key": "hunter2"}})
    with RangeServer(folder) as server:
        raster = FlacRaster.open(fs.open(f"{server.url}/a.flac?key=hunter3"))
        ds = xr.open_dataset(
            f"{server.url}/a.flac?key=hunter3",
            engine="flacraster",
            chunks={},
            storage_options={"client_kwargs": {"headers": {"X-Key": "hunter2"}}},
        )
        shown = [raster, raster.source, ds, ds.band_data.data]
        shown += list(dict(ds.band_data.data.dask).values())
        assert "hunter" not in " ".join(map(repr, shown))
        assert "hunter" not in " ".join(map(str, shown))
        assert "hunter" not in raster.name


# -- without threads


def refused(*_):
    """Stand in for Python's start of a thread: there are no more."""
    msg = "can't start new thread"
    raise RuntimeError(msg)


def out_of_memory(*_):
    raise MemoryError


def stillborn(*_):
    """Start a thread that dies before it does anything."""


@pytest.fixture(params=[refused, out_of_memory, stillborn])
def no_threads(request, monkeypatch):
    for module in (fetch_ahead, fetching, loop_source):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr("flac_xarray.crew._thread.start_new_thread", request.param)


@pytest.mark.usefixtures("no_threads")
def test_reading_and_writing_without_threads(target):
    with FlacRaster.open(target, threads=4, cache_nbytes=0) as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)
        windows = [(slice(0, 2), slice(5, 280), slice(k, 300)) for k in (0, 100)]
        for window in windows:
            np.testing.assert_array_equal(raster.read_selection(window), PIXELS[window])
    data = encode_array(PIXELS, tile_size=32, threads=4, overviews=(2,))
    with FlacRaster.open(data, threads=1) as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)
        assert raster.read(level=1).shape == (2, 150, 165)


@pytest.mark.usefixtures("no_threads")
def test_computing_without_threads(server, monkeypatch):
    monkeypatch.setattr(fetch_ahead, "BATCH_NBYTES", 4096)
    url = f"{server.url}/a.flac"
    with xr.open_dataset(url, engine="flacraster", chunks={}) as ds:
        found = ds.band_data.compute(scheduler="synchronous")
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.usefixtures("no_threads")
def test_a_synchronous_file_system_without_threads(folder):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/processes.flac", (folder / "a.flac").read_bytes())
    limits = FetchLimits(concurrency=4, gap=0)
    source = open_source("memory://processes.flac", limits=limits)
    with FlacRaster.open(source, threads=2) as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)


def test_jobs_come_back_in_order_and_errors_too():
    def work(n):
        if n == 70:
            msg = "seventy"
            raise ValueError(msg)
        return n * n

    done = []

    def take_all():
        with Crew(3) as crew:
            for n in range(100):
                crew.put(work, n)
            while len(crew):
                done.append(crew.take())

    with pytest.raises(ValueError, match="seventy"):
        take_all()
    assert done == [n * n for n in range(len(done))]
    assert len(done) <= 70


def test_nothing_runs_any_more_when_a_crew_has_ended():
    running, may_end, ended = threading.Event(), threading.Event(), []

    def work():
        running.set()
        may_end.wait(ENDED_SECONDS)
        ended.append(True)

    def leave():
        with Crew(1) as crew:
            crew.put(work)
            crew.put(ended.append, "never")
            running.wait(ENDED_SECONDS)
            threading.Timer(0.05, may_end.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert ended == [True]


def test_no_thread_is_left_behind(target, tmp_path):
    code = f"""
import _thread, time
import xarray as xr
from flac_xarray import FlacRaster

raster = FlacRaster.open("{target}", threads=4)
ds = xr.open_dataset("{target}", engine="flacraster", chunks={{}})
before, seen = _thread._count(), set()  # that of fsspec's loop, maybe
indices = [(0, row, col) for row in range(9) for col in range(10)]
raster.visit_tiles(indices, lambda *_: seen.add(_thread._count()))
ds.band_data.compute(scheduler="synchronous")
assert max(seen) > before
while _thread._count() > before:
    time.sleep(0.01)
"""
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, timeout=ENDED_SECONDS, cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_a_tile_that_never_arrives_is_an_error(folder):
    def fetch(raster, position, numbers):
        arriving = raster.fetch_tiles(position, numbers)
        next(arriving)
        yield from arriving

    whole = tuple(slice(0, n) for n in PIXELS.shape)
    with (
        FlacRaster.open(folder / "a.flac") as raster,
        pytest.raises(SourceError, match="219 of 220 tiles arrived"),
    ):
        raster.read_selection(whole, fetch=fetch)


def test_when_fsspecs_loop_has_ended_reading_says_so(server):
    code = (
        "from flac_xarray import FlacRaster\n"
        "from flac_xarray.sources import fetching, loop_source\n"
        "fetching.LOOK_SECONDS = loop_source.LOOK_SECONDS = 0.05\n"
        f"raster = FlacRaster.open('{server.url}/large.flac')\n"
        "import fsspec\n"
        "loop, thread = fsspec.asyn.loop[0], fsspec.asyn.iothread[0]\n"
        "loop.call_soon_threadsafe(loop.stop)\n"
        "thread.join()\n"
        "for read in (raster.read, lambda: raster.read_tile_bytes((0, 0, 0))):\n"
        "    try: read()\n"
        "    except OSError as error: print('loop has ended' in str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=ENDED_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
@pytest.mark.parametrize("mebibytes", [0, 30, 80])
def test_without_memory_reading_is_right_or_says_so(folder, mebibytes, tmp_path):
    words = (mebibytes, folder / "large.flac", folder / "large.npy")
    done = run("scarce_reads", *words, cwd=tmp_path)
    if "memory for thread-local data" in done.stderr:
        # glibc's way to say it, in a thread that uses NumPy for the first time.
        assert done.returncode == 127
        return
    assert done.returncode == 0
    told = done.stdout.splitlines()
    assert told.pop() == "afterwards right"
    assert len(told) == 20
    assert set(told) <= {"right", "MemoryError", "SourceError", "CorruptTileError"}


# -- ending


RIGHT = {"plain": "right\n", "at_exit": "right\nright\n"}
CODES = {"leaving": 3, "killed": -signal.SIGTERM, "interrupted": -signal.SIGINT}


@pytest.mark.parametrize("mode", ["plain", "ahead", "generator", "leaving"])
def test_a_process_ends_with_requests_under_way(server, folder, mode):
    url = f"{server.url}/a.flac"
    done = run("ending_reads", mode, url, folder / "a.npy", cwd=folder)
    expected = (CODES.get(mode, 0), RIGHT.get(mode, ""), "")
    assert (done.returncode, done.stdout, done.stderr) == expected


@pytest.mark.parametrize(
    "mode", ["daemon", "computing", "killed", "interrupted", "at_exit"]
)
def test_a_process_ends_in_the_midst_of_reading(target, folder, mode):
    done = run("ending_reads", mode, target, folder / "a.npy", cwd=folder)
    assert done.returncode == CODES.get(mode, 0)
    assert done.stdout == RIGHT.get(mode, "")
    if mode == "interrupted":
        assert done.stderr.count("Traceback") == 1
        assert done.stderr.endswith("\nKeyboardInterrupt\n")
        assert "Exception ignored" not in done.stderr
    else:
        assert done.stderr == ""


def test_a_read_after_the_end_of_the_interpreter_is_right_or_refused(target, folder):
    done = run("ending_reads", "late", target, folder / "a.npy", cwd=folder)
    outcome = "refused\n" if "://" in target else "right\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, outcome, "")


@can_fork
def test_a_writer_left_open_leaves_nothing_when_its_process_ends(folder, tmp_path):
    done = run(
        "ending_reads", "writer", folder / "a.flac", folder / "a.npy", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ".part" in done.stdout  # it was there, and outlived a fork
    assert list(tmp_path.iterdir()) == []
