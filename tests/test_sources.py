import contextlib
import gc
import io
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.errors import SourceChangedError, SourceError
from flac_xarray.naming import Secrets, display_name
from flac_xarray.ranges import ByteRange, Request, plan_requests
from flac_xarray.sources import (
    Counters,
    FetchLimits,
    FileObjectSource,
    FileSource,
    FsspecSource,
    HttpSource,
    MemorySource,
    Prefix,
    Source,
    SourceNotFoundError,
    open_source,
)
from flac_xarray.sources.fetching import fetch_as_they_arrive
from flac_xarray.sources.fsspec_source import BlockingFsspecSource
from flac_xarray.sources.splitting import PartSplitter
from tests.servers import Redirect, Reset, Stall, Status

RANGES = [
    ByteRange(0, 10),
    ByteRange(299_990, 300_000),
    ByteRange(5, 5),
    ByteRange(100, 70_000),
    ByteRange(8, 12),
    ByteRange(0, 10),
    ByteRange(150_000, 150_001),
]


def _to_file(path, _):
    return FileSource.open(path)


def _to_memory(path, _):
    return MemorySource(path.read_bytes())


def _to_file_object(path, stack):
    return open_source(stack.enter_context(path.open("rb")))


def _to_http(path, stack):
    from flac_xarray.range_server import RangeServer

    server = stack.enter_context(RangeServer(path.parent))
    return open_source(server.url_of(path.name))


def _to_fsspec_memory(path, stack):
    url = f"memory://contract/{path.name}"
    fs, inside = fsspec.core.url_to_fs(url)
    fs.pipe_file(inside, path.read_bytes())
    stack.callback(fs.rm, "/contract", recursive=True)
    return open_source(url)


def _to_threads(path, stack):
    source = _to_fsspec_memory(path, stack)
    source.limits = FetchLimits(concurrency=4)
    return source


def _to_async_filesystem(path, _):
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    local = fsspec.filesystem("file")
    fs = AsyncFileSystemWrapper(local, asynchronous=False)
    return FsspecSource(fs, str(path), url=f"wrapped://{path}")


def _to_zip(path, stack):
    archive = path.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as writer:
        writer.write(path, "inside.flac")
    url = f"zip://inside.flac::file://{archive}"
    source = open_source(url)
    stack.callback(fsspec.core.url_to_fs(url)[0].close)  # the same, from its cache
    return source


def _to_tar(path, _):
    archive = path.with_suffix(".tar")
    with tarfile.open(archive, "w") as writer:
        writer.add(path, "inside.flac")
    return open_source(f"tar://inside.flac::file://{archive}")


def _to_packed_zip(path, _):
    archive = path.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.write(path, "inside.flac")
    return open_source(f"zip://inside.flac::file://{archive}")


KINDS = {
    "file": _to_file,
    "memory": _to_memory,
    "file-object": _to_file_object,
    "http": _to_http,
    "fsspec-memory": _to_fsspec_memory,
    "fsspec-threads": _to_threads,
    "fsspec-async": _to_async_filesystem,
    "fsspec-zip": _to_zip,
    "fsspec-tar": _to_tar,
    "fsspec-packed-zip": _to_packed_zip,
}


@pytest.fixture(params=KINDS)
def opened(request, served):
    """Give a function from a file name to a source of this kind."""
    with contextlib.ExitStack() as stack:

        def open_as(name="a.flac"):
            source = KINDS[request.param](served / name, stack)
            stack.callback(source.close)
            return source

        yield open_as


class TestContract:
    def test_it_is_a_source(self, opened):
        assert isinstance(opened(), Source)

    @pytest.mark.parametrize("nbytes", [0, 1, 1000, 300_000, 300_001])
    def test_prefix(self, opened, payload, nbytes):
        source = opened()
        prefix = source.read_prefix(nbytes)
        assert bytes(prefix.data) == payload[:nbytes]
        assert prefix.size in (None, len(payload))
        assert source.counters.requests == 1 or not nbytes

    def test_prefix_of_an_empty_file(self, opened):
        prefix = opened("empty.flac").read_prefix(100)
        assert bytes(prefix.data) == b""
        assert prefix.size in (None, 0)

    def test_ranges(self, opened, payload):
        found = list(opened().read_ranges(RANGES))
        assert sorted(position for position, _ in found) == list(range(len(RANGES)))
        for position, data in found:
            wanted = RANGES[position]
            assert isinstance(data, memoryview)
            assert data == payload[wanted.start : wanted.stop]

    def test_no_ranges(self, opened):
        source = opened()
        assert list(source.read_ranges([])) == []
        assert source.counters.requests == 0

    def test_one_range(self, opened, payload):
        source = opened()
        assert bytes(source.read_range(1000, 2000)) == payload[1000:2000]
        assert bytes(source.read_range(7, 7)) == b""

    def test_many_small_requests(self, opened, payload):
        source = opened()
        source.limits = replace(source.limits, gap=0)
        ranges = [ByteRange(k, k + 10) for k in range(0, 3000, 30)]
        source.read_prefix(10)  # a member of a zip finds where it begins
        before = source.counters.requests
        found = dict(source.read_ranges(ranges))
        assert all(found[k] == payload[30 * k : 30 * k + 10] for k in range(100))
        assert source.counters.requests - before == 100

    @pytest.mark.parametrize("start", [299_990, 300_000, 400_000])
    def test_beyond_the_end(self, opened, start):
        source = opened()
        source.limits = replace(source.limits, retries=0)
        with pytest.raises(SourceError) as caught:
            source.read_range(start, 400_010)
        assert (caught.value.start, caught.value.stop) == (start, 400_010)
        with pytest.raises(SourceError):
            dict(source.read_ranges([ByteRange(start, 400_010)]))

    def test_counters(self, opened):
        source = opened()
        source.read_prefix(10)
        before = source.counters.snapshot()
        source.read_range(0, 1000)
        source.read_range(0, 500)
        stats = source.counters.snapshot()
        assert stats.requests - before.requests == 2
        assert stats.bytes - before.bytes == 1500
        assert stats.retries == 0
        assert 0 < stats.seconds < 5

    def test_many_threads(self, opened, payload):
        source = opened()

        def read(seed):
            start = seed * 1000
            found = dict(
                source.read_ranges(
                    [ByteRange(start, start + 500), ByteRange(start + 600, start + 700)]
                )
            )
            return bytes(found[0]) + bytes(found[1])

        with ThreadPoolExecutor(8) as pool:
            for seed, data in enumerate(pool.map(read, range(60))):
                start = seed * 1000
                expected = payload[start : start + 500]
                assert data == expected + payload[start + 600 : start + 700]

    def test_pickle(self, opened, payload):
        source = opened()
        source.read_prefix(10)
        if isinstance(source, FileObjectSource):
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(source)
            return
        copy = pickle.loads(pickle.dumps(source))
        with contextlib.closing(copy):
            assert bytes(copy.read_range(50, 60)) == payload[50:60]
            assert copy.name == source.name
            assert copy.limits == source.limits

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
    def test_fork(self, opened, payload):
        source = opened()
        source.limits = replace(source.limits, timeout=4.0)
        source.read_range(0, 10)
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()

        def child():
            found = dict(source.read_ranges(RANGES))
            if isinstance(source, HttpSource):
                gc.collect()  # must not close what belongs to the parent
            theirs.send([bytes(found[k]) for k in range(len(RANGES))])

        process = context.Process(target=child)
        process.start()
        try:
            # Collecting copies every page of a process that has run the whole suite.
            assert ours.poll(60), "the forked child does not answer"
            assert ours.recv() == [payload[r.start : r.stop] for r in RANGES]
            # The parent's connections are as good as before.
            assert bytes(source.read_range(10, 20)) == payload[10:20]
            assert source.counters.retries == 0
        finally:
            process.join(5)
            process.kill()
            process.join()
            ours.close()
            theirs.close()

    def test_abandoned(self, opened):
        source = opened()
        source.limits = replace(source.limits, gap=0, concurrency=2)
        ranges = [ByteRange(k, k + 10) for k in range(0, 3000, 30)]
        arriving = source.read_ranges(ranges)
        next(arriving)
        arriving.close()
        assert source.counters.requests <= 4


class TestFile:
    def test_missing(self, tmp_path):
        path = tmp_path / "no.flac"
        with pytest.raises(SourceNotFoundError, match=r"no\.flac") as caught:
            open_source(path)
        assert isinstance(caught.value, FileNotFoundError)
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.errno == 2
        assert again.url == str(path)

    def test_directory(self, tmp_path):
        with pytest.raises(SourceError, match="is a directory"):
            open_source(tmp_path)

    def test_closed(self, served):
        source = open_source(served / "a.flac")
        source.close()
        with pytest.raises(SourceError, match="closed"):
            source.read_range(0, 1)

    def test_relative_path_is_found_from_elsewhere(self, served, monkeypatch, payload):
        monkeypatch.chdir(served)
        frozen = pickle.dumps(open_source("a.flac"))
        monkeypatch.chdir("/")
        with pickle.loads(frozen) as source:
            assert source.read_range(0, 5) == payload[:5]

    def test_a_system_without_pread(self, served, monkeypatch, payload):
        monkeypatch.delattr(os, "pread", raising=False)  # as on Windows
        with open_source(served / "a.flac") as source, ThreadPoolExecutor(8) as pool:
            starts = range(0, 200_000, 100)
            for start, data in zip(
                starts,
                pool.map(lambda start: source.read_range(start, start + 90), starts),
                strict=True,
            ):
                assert data == payload[start : start + 90]

    def test_rewritten_in_place(self, served):
        path = served / "a.flac"
        with open_source(path) as source:
            source.read_prefix(10)
            path.write_bytes(b"something shorter")
            with pytest.raises(SourceChangedError, match="replaced or rewritten"):
                source.read_range(0, 10)

    def test_replaced_by_rename(self, served, payload):
        path = served / "a.flac"
        with open_source(path) as source:
            frozen = pickle.dumps(source)
            (served / "b.flac").write_bytes(b"another file")
            (served / "b.flac").replace(path)
            # The open one keeps to its file, a later opening notices.
            assert source.read_range(0, 10) == payload[:10]
            with pytest.raises(SourceChangedError):
                pickle.loads(frozen)

    def test_file_url(self, served, payload):
        with open_source(f"file://{served}/a.flac") as source:
            assert isinstance(source, FileSource)
            assert source.read_range(3, 9) == payload[3:9]


class TestFileObjects:
    def test_open_file_is_left_open(self, served):
        with (served / "a.flac").open("rb") as file:
            open_source(file).close()
            assert not file.closed

    def test_bytesio(self):
        source = open_source(io.BytesIO(b"abcdef"))
        assert source.read_range(1, 3) == b"bc"

    def test_raw_file_that_gives_a_byte_at_a_time(self):
        class Slow(io.BytesIO):
            def read(self, size=-1):
                return super().read(min(size, 1))

        assert open_source(Slow(b"abcdef")).read_range(1, 5) == b"bcde"

    def test_fsspec_open_file(self, range_server, payload):
        source = open_source(fsspec.open(range_server.url_of("a.flac")))
        assert isinstance(source, HttpSource)
        assert source.read_range(1, 3) == payload[1:3]
        assert range_server.requests["/a.flac"] == 1

    def test_fsspec_compressed_file(self, tmp_path):
        import gzip

        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(b"abcdef"))
        opened = fsspec.open(str(path), compression="gzip")
        with contextlib.closing(open_source(opened)) as source:
            assert source.read_range(1, 3) == b"bc"

    def test_cannot_seek(self):
        with pytest.raises(TypeError, match="cannot read from list"):
            open_source([1, 2])


class TestOpening:
    def test_a_source_is_itself(self):
        source = MemorySource(b"")
        assert open_source(source) is source

    def test_unknown_protocol(self):
        with pytest.raises(SourceError, match=r"nosuch://b/x.*nosuch"):
            open_source("nosuch://b/x")

    def test_protocol_that_is_not_installed(self):
        # In a process of its own, where adlfs cannot be imported whatever is there.
        code = (
            "import sys; sys.modules['adlfs'] = None\n"
            "from flac_xarray.sources import open_source\n"
            "open_source('az://container/x.flac')"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert 'pip install "flac-xarray[azure]"' in ran.stderr

    def test_missing_archive(self, tmp_path):
        with pytest.raises(SourceNotFoundError, match=r"no\.zip"):
            open_source(f"zip://a.flac::file://{tmp_path}/no.zip")

    def test_the_end_of_a_file_is_no_transient_failure(self):
        fsspec.filesystem("memory").pipe_file("/contract/short", b"abc")
        source = open_source("memory://contract/short")
        with pytest.raises(SourceError, match="the file has 3"):
            source.read_range(1, 9)
        assert source.counters.requests == 1
        fsspec.filesystem("memory").rm("/contract", recursive=True)

    def test_missing_member(self):
        with pytest.raises(SourceNotFoundError, match="no such file"):
            open_source("memory://no/such.flac").read_prefix(10)

    def test_simplecache_downloads_once(self, range_server, tmp_path, payload):
        source = open_source(
            f"simplecache::{range_server.url_of('a.flac')}",
            {"simplecache": {"cache_storage": str(tmp_path / "cache")}},
        )
        assert isinstance(source, BlockingFsspecSource)
        found = dict(source.read_ranges(RANGES))
        assert all(found[k] == payload[r.start : r.stop] for k, r in enumerate(RANGES))
        range_server.reset_counts()
        assert source.read_range(5, 10) == payload[5:10]
        assert not range_server.requests

    def test_importing_is_light(self):
        code = (
            "import sys, flac_xarray.sources as s; s.open_source(b'x').read_prefix(1)\n"
            "print([m for m in ('fsspec', 'aiohttp', 'asyncio.sslproto', 's3fs')"
            " if m in sys.modules])"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert "fsspec" not in ran.stdout
        assert "aiohttp" not in ran.stdout


class TestSecrets:
    URL = "https://me:pw%2Bsecret@host.test/x.flac?X-Amz-Signature=c0ffee42&n=1#frag"

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            (URL, "https://host.test/x.flac"),
            (f"simplecache::{URL}", "simplecache::https://host.test/x.flac"),
            ("s3://bucket/key with space", "s3://bucket/key with space"),
            ("http://[::1]:80/x?y", "http://[::1]:80/x"),
            ("http://[broken/x?sig=1", "http://..."),
            ("relative/path.flac", "relative/path.flac"),
        ],
    )
    def test_display_name(self, url, shown):
        assert display_name(url) == shown

    @pytest.mark.parametrize(
        "fault",
        [Status(403), Status(503), Reset(), Stall(0), Redirect("/a.flac", "/a.flac")],
        ids=["403", "503", "reset", "stall", "endless-redirect"],
    )
    def test_no_failure_shows_them(self, fault_server, fault):
        fault_server.faults = [fault]
        server = fault_server.url.replace("://", "://me:pw%2Bsecret@")
        options = {
            "headers": {"X-Auth": "Bearer tok3nvalue"},
            "client_kwargs": {"cookies": {"session": "c00kievalue"}},
        }
        source = open_source(
            f"{server}/a.flac?X-Amz-Signature=c0ffee42",
            options,
            FetchLimits(retries=1, timeout=0.2, backoff=0.01),
        )
        with pytest.raises(SourceError) as caught:
            source.read_prefix(10)
        sent = str(fault_server.seen[0][1])
        assert "tok3n" in sent
        assert "c00kie" in sent
        error = caught.value
        texts = [repr(source), str(source), source.name, repr(source.counters)]
        texts += [repr(error), repr(vars(error)), *traceback.format_exception(error)]
        for secret in ("pw+secret", "pw%2Bsecret", "c0ffee42", "tok3n", "c00kie"):
            assert not any(secret in text for text in texts)

    def test_clean_replaces_what_options_and_url_hold(self):
        secrets = Secrets(self.URL, {"s3": {"key": "AKIA99", "secret": "s3cr3t"}})
        text = "AKIA99 s3cr3t pw%2Bsecret pw+secret c0ffee42 kept"
        assert secrets.clean(text) == "*** *** *** *** *** kept"

    def test_a_cause_that_tells_is_not_chained(self):
        secrets = Secrets(self.URL)
        silent, telling = OSError("gone"), OSError(f"gone: {self.URL}")
        assert secrets.presentable(silent) is silent
        assert secrets.presentable(telling) is None


class TestFetching:
    """The engine alone, on futures that the test completes."""

    PLAN = tuple(Request(10 * k, 10 * k + 10, ()) for k in range(20))

    def test_never_further_ahead_than_allowed(self):
        started = []

        def submit(request, emit):
            started.append(request)
            emit(request.start)
            done = Future()
            done.set_result(None)
            return done

        limits = FetchLimits(concurrency=4)
        consumed = []
        for data in fetch_as_they_arrive(self.PLAN, submit, limits):
            consumed.append(data)
            assert len(started) - len(consumed) <= 4
        assert consumed == [request.start for request in self.PLAN]

    @pytest.mark.parametrize(("buffer", "ahead"), [(0, 1), (10, 1), (25, 2), (50, 5)])
    def test_bytes_ahead_are_bounded(self, buffer, ahead):
        pending = []

        def submit(_, emit):
            pending.append((Future(), emit))
            return pending[-1][0]

        limits = FetchLimits(concurrency=9, buffer=buffer)
        arriving = fetch_as_they_arrive(self.PLAN, submit, limits)
        threading.Timer(0.05, lambda: pending[0][1]("part")).start()
        assert next(arriving) == "part"
        assert len(pending) == ahead
        arriving.close()

    def test_in_order_of_arrival_and_before_a_request_ends(self):
        pending = []

        def submit(_, emit):
            pending.append((Future(), emit))
            return pending[-1][0]

        arriving = fetch_as_they_arrive(self.PLAN[:3], submit, FetchLimits())
        threading.Timer(0.05, lambda: pending[2][1]("third")).start()
        assert next(arriving) == "third"
        pending[0][1]("first")
        pending[0][0].set_result(None)
        assert next(arriving) == "first"
        arriving.close()
        assert pending[1][0].cancelled()
        assert pending[2][0].cancelled()

    def test_an_error_cancels_the_rest(self):
        pending = []

        def submit(_, emit):
            pending.append(Future())
            emit(len(pending))
            if len(pending) == 2:
                pending[-1].set_exception(SourceError("broken"))
            return pending[-1]

        with pytest.raises(SourceError, match="broken"):
            list(fetch_as_they_arrive(self.PLAN, submit, FetchLimits()))
        assert all(f.cancelled() for k, f in enumerate(pending) if k != 1)


class TestSplitting:
    """Parts of a request against slices of its bytes."""

    DATA = bytes(range(200))

    @given(
        ranges=st.lists(
            st.tuples(st.integers(0, 199), st.integers(1, 60)), min_size=1, max_size=8
        ),
        steps=st.lists(st.integers(1, 50), min_size=1, max_size=4),
        fail_at=st.none() | st.integers(0, 200),
    )
    def test_each_part_once_and_exact(self, ranges, steps, fail_at):
        wanted = [ByteRange(a, min(a + n, 200)) for a, n in ranges]
        for request in plan_requests(wanted, gap=5, max_request=80):
            found = []
            splitter = PartSplitter(request, found.append)
            failed = fail_at is None
            at = splitter.restart()
            assert at == request.start
            for step in itertools.cycle(steps):
                splitter.feed(self.DATA[at : min(at + step, request.stop)])
                at = min(at + step, request.stop)
                if not failed and at >= fail_at:
                    failed = True
                    held = {item for item, _ in found}
                    at = splitter.restart()
                    left = [p for p in request.parts if p.item not in held]
                    assert at == request.start + min(
                        (p.offset for p in left), default=request.nbytes
                    )
                if at >= request.stop:
                    break
            assert sorted(item for item, _ in found) == sorted(
                part.item for part in request.parts
            )
            for item, data in found:
                assert data == self.DATA[wanted[item].start : wanted[item].stop]


class TestLimits:
    def test_bytes_are_wasted_only_to_save_round_trips(self):
        limits = FetchLimits(gap=100, concurrency=3)
        near = [ByteRange(k * 50, k * 50 + 10) for k in range(4)]
        assert [r.nbytes for r in limits.plan(near[:3])] == [10, 10, 10]
        assert [r.nbytes for r in limits.plan(near)] == [160]

    @pytest.mark.parametrize(
        "name",
        [
            "gap",
            "max_request",
            "concurrency",
            "buffer",
            "timeout",
            "retries",
            "backoff",
            "whole_file",
        ],
    )
    def test_each_limit_is_checked(self, name):
        with pytest.raises(ValueError, match=name):
            FetchLimits(**{name: -1})

    def test_prefix_is_a_value(self):
        assert Prefix(b"a", 1, None) == Prefix(b"a", 1, None)

    def test_counting_overlapping_requests_counts_time_once(self):
        counters = Counters()
        begun = time.perf_counter()
        counters.begin()
        counters.begin()
        time.sleep(0.05)
        counters.end(1)
        counters.end(2)
        assert 0.05 <= counters.seconds <= time.perf_counter() - begun
        assert (counters.requests, counters.bytes) == (2, 3)
