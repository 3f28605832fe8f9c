"""Writing dask arrays: every scheduler, one file, all of it or nothing."""

from __future__ import annotations

import errno
import os
import pickle
import sys
import threading
import time
import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.delayed import Delayed
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray import FormatError, SourceError, write
from flac_xarray.errors import RechunkWarning
from flac_xarray.reader import FlacRaster
from flac_xarray.shared_file import SharedFile, claimed_end
from flac_xarray.tile_chunks import plan_blocks, reads_per_chunk
from flac_xarray.tile_encoder import TileEncoder
from flac_xarray.validate import validate_raster
from tests.stores import s3_store

RNG = np.random.default_rng(5)
TILE = 64
PIXELS = np.cumsum(RNG.integers(-9, 10, (3, 300, 330)), -1).astype("int16")
PIXELS[1, :128] = 0  # empty tiles
LIKE = {"dtype": "int16", "meta": np.empty((0, 0, 0), "int16")}
HEIGHT = RNG.normal(size=(300, 330)).astype("float32")


def dataset(chunks=(1, 128, 100)) -> xr.Dataset:
    """Three bands in chunks that are no tiles, and a plane in memory."""
    return xr.Dataset(
        {
            "t": (("band", "y", "x"), da.from_array(PIXELS, chunks)),
            "height": (("y", "x"), HEIGHT),
        }
    )


def assert_whole(target, **storage) -> None:
    report = validate_raster(target, full=True, **storage)
    assert report.ok, report
    with FlacRaster.open(target, **storage) as raster:
        np.testing.assert_array_equal(raster.read(name="t"), PIXELS)
        np.testing.assert_array_equal(raster.read(name="height"), HEIGHT)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_every_scheduler_writes_the_file(scheduler, tmp_path):
    with dask.config.set(scheduler=scheduler, num_workers=2):
        write(dataset(), tmp_path / "a.flac", tile_size=TILE)
    assert_whole(tmp_path / "a.flac")
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_two_tasks_encode_at_the_same_time(tmp_path, monkeypatch):
    """No lock: two tasks meet inside of the encoder, or this would never end."""
    meeting = threading.Barrier(2, timeout=20)
    real = TileEncoder.encode

    def meet(self, position, index, tile):
        meeting.wait()
        return real(self, position, index, tile)

    monkeypatch.setattr(TileEncoder, "encode", meet)
    array = xr.DataArray(da.ones((128, 64), chunks=64), dims=("y", "x"))
    with dask.config.set(scheduler="threads", num_workers=2):
        write(array, tmp_path / "a.flac", tile_size=64)


def test_one_delayed_writes_when_it_is_computed(tmp_path):
    target = tmp_path / "a.flac"
    task = write(dataset(), target, tile_size=TILE, compute=False)
    assert isinstance(task, Delayed)
    assert not target.exists()
    assert task.compute() == str(target)
    assert_whole(target)
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]
    with pytest.raises(SourceError, match="finished already"):
        task.compute()
    assert_whole(target)


def test_arrays_in_memory_can_wait_too(tmp_path):
    ds = dataset().compute()
    task = pickle.loads(
        pickle.dumps(write(ds, tmp_path / "a.flac", tile_size=TILE, compute=False))
    )
    assert list(tmp_path.glob("*.flac")) == []
    task.compute(scheduler="threads")
    assert_whole(tmp_path / "a.flac")


def test_an_existing_file_is_refused_at_once_and_kept_meanwhile(tmp_path):
    target = tmp_path / "a.flac"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write(dataset(), target, compute=False)
    task = write(dataset(), target, tile_size=TILE, compute=False, overwrite=True)
    assert target.read_bytes() == b"mine"
    task.compute()
    assert_whole(target)
    late = write(dataset(), tmp_path / "b.flac", tile_size=TILE, compute=False)
    (tmp_path / "b.flac").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        late.compute()
    assert (tmp_path / "b.flac").read_bytes() == b"theirs"


def test_the_client_gathers_no_pixels(tmp_path):
    """Answers of tasks are what crosses processes: their size is that of tables."""
    task = write(dataset(), tmp_path / "a.flac", tile_size=TILE, compute=False)
    answers = [key for key in task.dask if "flac-join" in str(key)]
    found = dask.get(dict(task.dask), answers)
    assert sum(len(pickle.dumps(a)) for a in found) < 32 * 120 + 2000 * len(found)
    assert all(not a.waiting for a in found)


def test_a_failing_task_leaves_nothing(tmp_path):
    def fail(block):
        if block.any():
            msg = "no luck"
            raise RuntimeError(msg)
        return block

    ds = dataset()
    ds["t"] = ds.t.copy(data=ds.t.data.map_blocks(fail, dtype="int16"))
    with pytest.raises(RuntimeError, match="no luck"):
        write(ds, tmp_path / "a.flac", tile_size=TILE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["pwrite", "ftruncate"])
def test_a_full_disk_leaves_nothing(call, tmp_path, monkeypatch):
    real = getattr(os, call)
    calls = []

    def full(fd, *args):
        calls.append(args)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, *args)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SourceError, match="No space left"):
        write(dataset(), tmp_path / "a.flac", tile_size=TILE)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_doubled_tiles_are_refused(tmp_path):
    from flac_xarray.dataset_plan import plan_dataset
    from flac_xarray.tile_batch import joined
    from flac_xarray.tile_job import TileJob

    header = plan_dataset(dataset().compute(), tile_size=TILE).header
    file = SharedFile.create(tmp_path / "a.flac", overwrite=False, reserve=10_000)
    job = TileJob(TileEncoder(header), file)
    t, height = (header.find(name) for name in ("t", "height"))
    most = joined(
        [job.encode(t, (0, 0, 0), PIXELS), job.encode(height, (0, 0), HEIGHT[:64])]
    )
    with pytest.raises(FormatError, match=r"24 of 30.*\(1, 0\), written 0 times"):
        job.finish(most)
    with pytest.raises(SourceError, match="finished already"):
        job.encode(t, (0, 0, 0), PIXELS)
    file.abort()
    assert list(tmp_path.iterdir()) == []
    again = SharedFile.create(tmp_path / "a.flac", overwrite=False, reserve=10_000)
    twice = TileJob(TileEncoder(header), again)
    rows = job.header and [twice.encode(t, (0, 0, 0), PIXELS)] * 2
    with pytest.raises(FormatError, match="written 2 times"):
        twice.finish(joined(rows))
    again.abort()


# Chunks and tiles


@given(st.data())
def test_blocks_are_whole_tiles_of_the_same_array(data):
    n_dims = data.draw(st.integers(1, 3))
    chunk = st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple)
    chunks = tuple(data.draw(chunk) for _ in range(n_dims))
    tile = tuple(data.draw(st.integers(1, 12)) for _ in range(n_dims))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flac_xarray.tile_chunks.MAX_BLOCK_NBYTES", 5000)
        blocks = plan_blocks(chunks, tile, 2)
    assert [sum(b) for b in blocks] == [sum(c) for c in chunks]
    assert all(n % t == 0 for b, t in zip(blocks, tile, strict=True) for n in b[:-1])
    nbytes = 2 * np.prod([max(b) for b in blocks])
    assert nbytes <= max(5000, 2 * np.prod(tile))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple),
    st.integers(1, 12),
)
def test_reads_per_chunk_count_what_a_loop_counts(have, step):
    n = sum(have)
    want = tuple(min(step, n - s) for s in range(0, n, step))
    owner = np.repeat(np.arange(len(have)), have)
    blocks = np.split(owner, np.cumsum(want)[:-1])
    total = sum(have[k] for block in blocks for k in set(block.tolist()))
    inside = set(np.cumsum(have)) <= set(np.cumsum(want))
    assert reads_per_chunk((have,), (want,)) == (
        1 if inside else pytest.approx(total / n, abs=0.006)
    )


def test_expensive_chunks_are_pointed_out(tmp_path):
    def write_chunked(chunks):
        array = da.zeros((3000, 12_000), chunks=chunks, dtype="int16")
        data = xr.DataArray(array, dims=("y", "x"))
        write(data, tmp_path / "a.flac", compute=False, overwrite=True)

    with pytest.warns(RechunkWarning, match=r"\(1000, 1000\).*\(512, 512\).*tasks"):
        write_chunked(1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chunks in (1024, 100, (3000, 12_000), (100, 12_000), (400, 12_000)):
            write_chunked(chunks)


def test_memory_is_bounded_by_blocks_not_by_the_array(tmp_path):
    """What is alive at once, of an array that is computed as it is written."""
    alive, most, lock = set(), [0], threading.Lock()

    class Block(np.ndarray):
        pass

    import weakref

    def block(block_info=None):
        shape = block_info[None]["chunk-shape"]
        made = np.zeros(shape, "int16").view(Block)
        made += sum(block_info[None]["chunk-location"])
        key = id(made)
        with lock:
            alive.add(key)
            most[0] = max(most[0], len(alive))
        weakref.finalize(made, alive.discard, key)
        return made

    array = da.map_blocks(block, chunks=((64,) * 20, (64,) * 20), dtype="int16")
    alive.clear()
    most[0] = 0
    with dask.config.set(scheduler="threads", num_workers=2):
        data = xr.DataArray(array, dims=("y", "x"), name="a")
        write(data, tmp_path / "a.flac", tile_size=64)
    assert 1 <= most[0] <= 8  # of 400
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        tiles = raster.read()[::64, ::64]
    np.testing.assert_array_equal(tiles, np.add.outer(np.arange(20), np.arange(20)))


# dask.distributed


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        warnings.catch_warnings(),
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
    ):
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=2,
                processes=True,
                dashboard_address=None,
            ) as cluster,
            distributed.Client(cluster) as running_client,
        ):
            yield running_client


pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed"),
    pytest.mark.filterwarnings("ignore:Sending large graph"),  # pixels of the tests
]


def test_processes_of_a_cluster_write_the_file(client, tmp_path):
    workers = str(tmp_path / "workers")

    def note(block, path=workers):
        import os
        from pathlib import Path

        Path(f"{path}-{os.getpid()}").touch()
        return block

    ds = dataset(chunks=(1, 64, 64))
    ds["t"] = ds.t.copy(data=ds.t.data.map_blocks(by_value_of(note), **LIKE))
    target = tmp_path / "a.flac"
    assert client.compute(write(ds, target, tile_size=TILE, compute=False)).result()
    assert_whole(target)
    assert len(list(tmp_path.glob("workers-*"))) == 2
    assert f"workers-{os.getpid()}" not in {p.name for p in tmp_path.iterdir()}
    write(ds, target, tile_size=TILE, overwrite=True)  # on the cluster too
    assert_whole(target)
    assert list(tmp_path.glob(".a.flac*")) == []


def by_value_of(function):
    """Pickle a function by value: the workers cannot import the tests."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return function


def claim_many(path: str, claims: str, n: int) -> list[int]:
    starts = []
    for _ in range(n):
        with claimed_end(path, claims, 7, create=True) as (fd, start):
            os.pwrite(fd, b"%07d" % (os.getpid() % 10**7), start)
        starts.append(start)
    return starts


def test_claims_of_threads_and_processes_never_overlap(client, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    path, claims = tmp_path / "a", str(tmp_path / "a.claims")
    path.write_bytes(b"")
    job = (by_value_of(claim_many), str(path), claims, 100)
    with ThreadPoolExecutor(2) as threads:
        far = [client.submit(*job, pure=False) for _ in range(4)]
        near = [threads.submit(*job) for _ in range(2)]
        starts = sorted(s for jobs in (far, near) for j in jobs for s in j.result())
    assert starts == [7 * k for k in range(600)]
    assert path.stat().st_size == 4200
    assert b"\0" not in path.read_bytes()


def test_tasks_of_a_write_are_small(tmp_path):
    ds = dataset(chunks=(1, 64, 64))[["t"]]
    ds = ds.assign_attrs(long="x" * 50_000)
    task = write(ds, tmp_path / "a.flac", tile_size=TILE, compute=False)
    encode = {k: v for k, v in dict(task.dask).items() if "flac-encode" in str(k)}
    assert len(encode) == 90
    sizes = [len(pickle.dumps(v)) for v in encode.values()]
    assert max(sizes) < 3000  # the chunk's key and name; the header is none of it
    shared = [v for k, v in dict(task.dask).items() if "flac-blocks" in str(k)]
    assert len(shared) == 1


@pytest.mark.usefixtures("client")
def test_a_worker_that_dies_once_costs_nothing_but_time(tmp_path):
    marker = str(tmp_path / "died")

    def die_once(block, path=marker):
        import os
        from pathlib import Path

        if block.any() and not Path(path).exists():
            Path(path).touch()
            os._exit(3)
        return block

    ds = dataset(chunks=(1, 64, 64))
    ds["t"] = ds.t.copy(data=ds.t.data.map_blocks(by_value_of(die_once), **LIKE))
    write(ds, tmp_path / "a.flac", tile_size=TILE)
    assert Path(marker).exists()
    assert_whole(tmp_path / "a.flac")
    assert list(tmp_path.glob(".a.flac*")) == []


def test_workers_that_keep_dying_leave_nothing(client, tmp_path):
    from distributed import KilledWorker

    def die(block):
        import os

        if block.any():
            os._exit(3)
        return block

    ds = dataset(chunks=(1, 64, 64))
    ds["t"] = ds.t.copy(data=ds.t.data.map_blocks(by_value_of(die), **LIKE))
    with pytest.raises(KilledWorker):
        write(ds, tmp_path / "a.flac", tile_size=TILE)
    deadline = time.monotonic() + 120
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
    client.wait_for_workers(2, timeout=120)


# Object stores


@pytest.mark.parametrize("n", [0, 1, 15, 1000, 300_000, 1_500_000])
def test_a_store_is_given_no_more_parts_than_it_takes(n):
    from flac_xarray.dask_writer import _plan_tree

    levels = _plan_tree([512 * 512 * 2] * n)
    assert 2 + sum(map(len, levels)) <= 10_000
    assert len(levels[-1]) == min(n, 1)
    for size, level in zip((n, *map(len, levels)), levels, strict=False):
        joined = [k for span in level for k in range(span.start, span.stop)]
        assert joined == list(range(size))


NOISE = RNG.integers(0, 60000, (4, 1600, 1600)).astype("uint16")  # 20 MB packed


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with s3_store(tmp_path_factory.mktemp("store")) as store:
        yield dict(store.options)


def uploads(options) -> list:
    import s3fs

    fs = s3fs.S3FileSystem(**options)
    return fs.call_s3("list_multipart_uploads", Bucket="tiles").get("Uploads", [])


def noise(chunks=(1, 800, 800)) -> xr.DataArray:
    data = da.from_array(NOISE, chunks)
    return xr.DataArray(data, dims=("band", "y", "x"), name="t")


s3_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")


@s3_warnings
@pytest.mark.parametrize("scheduler", ["threads", "cluster"])
def test_an_object_is_uploaded_in_parts(scheduler, bucket, request, monkeypatch):
    import s3fs

    monkeypatch.setattr("flac_xarray.dask_writer.GROUP_NBYTES", 8 << 20)
    how = {"scheduler": "threads"}
    if scheduler == "cluster":
        how = {"scheduler": request.getfixturevalue("client")}
    url = f"s3://tiles/{scheduler}.flac"
    task = write(noise(), url, tile_size=400, compute=False, storage_options=bucket)
    fs = s3fs.S3FileSystem(**bucket, use_listings_cache=False)
    assert not fs.exists(url)
    task.compute(**how)
    assert validate_raster(url, full=True, storage_options=bucket).ok
    with FlacRaster.open(url, storage_options=bucket) as raster:
        np.testing.assert_array_equal(raster.read(), NOISE)
    etag = fs.info(url)["ETag"].strip('"')
    assert int(etag.split("-")[1]) >= 3  # S3 says of how many parts it is made
    assert uploads(bucket) == []
    with pytest.raises(FileExistsError):
        write(noise(), url, storage_options=bucket)


@s3_warnings
def test_a_small_object_is_one_part(bucket):
    url = "s3://tiles/small.flac"
    write(dataset(), url, tile_size=TILE, storage_options=bucket)
    assert_whole(url, storage_options=bucket)
    with FlacRaster.open(url, storage_options=bucket) as raster:
        assert raster.nbytes < 1 << 20


@s3_warnings
def test_a_failed_upload_leaves_nothing(bucket, monkeypatch):
    import s3fs

    monkeypatch.setattr("flac_xarray.dask_writer.GROUP_NBYTES", 8 << 20)

    def fail(block, block_info=None):
        if block_info and block_info[0]["chunk-location"] == (3, 1, 1):
            msg = "no luck"
            raise RuntimeError(msg)
        return block

    data = noise()
    data = data.copy(data=data.data.map_blocks(fail, dtype="uint16"))
    url = "s3://tiles/failed.flac"
    with pytest.raises(RuntimeError, match="no luck"):
        write(data, url, tile_size=400, storage_options=bucket)
    assert uploads(bucket) == []
    assert not s3fs.S3FileSystem(**bucket, use_listings_cache=False).exists(url)


@s3_warnings
def test_errors_of_the_store_name_the_target_and_no_secret(bucket):
    wrong = {**bucket, "client_kwargs": {"region_name": "us-east-1"}}
    with pytest.raises(SourceError, match=r"s3://nobucket/a\.flac") as caught:
        write(dataset(), "s3://nobucket/a.flac", storage_options=wrong)
    assert bucket["secret"] not in str(caught.value)


def test_other_stores_get_parts_as_objects_first(monkeypatch):
    import fsspec

    monkeypatch.setattr("flac_xarray.dask_writer.GROUP_NBYTES", 8 << 20)
    fs = fsspec.filesystem("memory")
    task = write(noise(), "memory://out/a.flac", tile_size=400, compute=False)
    assert not fs.exists("/out/a.flac")
    task.compute(scheduler="threads", num_workers=2)
    with FlacRaster.open("memory://out/a.flac") as raster:
        np.testing.assert_array_equal(raster.read(), NOISE)
    assert fs.find("/out") == ["/out/a.flac"]
    fs.rm("/out", recursive=True)


def test_a_part_that_is_gone_makes_no_file():
    import fsspec

    from flac_xarray.object_upload import begin_upload
    from flac_xarray.tile_batch import Part

    fs = fsspec.filesystem("memory")
    upload = begin_upload("memory://out/b.flac", None, overwrite=False)
    part, _ = upload.put(2, b"x" * 100)
    with pytest.raises(SourceError, match=r"memory://out/b\.flac"):
        upload.finish(b"head", (part, Part(3, 10)))
    assert not fs.exists("/out/b.flac")
    upload.abort()
    assert fs.find("/out") == []
