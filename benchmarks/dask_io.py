"""Whole scenes through dask: read and written, by threads and by processes.

Each measurement runs in a process of its own, so that its peak memory is its own; the
repeats go round all of them. What is read must agree in its mean, what is written must
come back with the same pixels.

    python -m benchmarks.dask_io scene.tif
    python -m benchmarks.dask_io scene.tif --size 4096 --only write,cluster

The bands of FILE (at most four) are repeated to --size pixels a side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TILE: Final = 512
CHUNK: Final = 2048
"""Pixels of a chunk along y and x where it is chosen: whole tiles for all."""
PLACE: Final = {"crs": "EPSG:32618", "transform": (10.0, 0, 5e5, 0, -10.0, 4e6)}


def grown(path: Path, size: int) -> NDArray[Any]:
    """Repeat a raster's first bands to a square of so many pixels."""
    import rasterio

    with rasterio.open(path) as dataset:
        small = dataset.read(list(dataset.indexes[:4]))
    ny, nx = (-(-size // n) for n in small.shape[1:])
    return np.tile(small, (1, ny, nx))[:, :size, :size]


def prepare(path: Path, size: int, folder: Path, threads: int) -> None:
    """Write the scene as raw bytes, as COG and as FLAC raster."""
    import rasterio
    from rasterio.shutil import copy

    from flac_xarray import write_array

    pixels = grown(path, size)
    np.save(folder / "scene.npy", pixels)
    write_array(folder / "scene.flac", pixels, tile_size=TILE, threads=threads, **PLACE)
    profile = {
        "driver": "GTiff",
        "count": pixels.shape[0],
        "height": size,
        "width": size,
        "dtype": pixels.dtype,
        "crs": PLACE["crs"],
        "transform": rasterio.Affine(*PLACE["transform"]),
    }
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as raw:
            raw.write(pixels)
        del pixels
        copy(
            memory.name,
            folder / "scene.tif",
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            blocksize=TILE,
            overviews="NONE",
            num_threads=threads,
        )


def scene(folder: Path) -> Any:
    """Give the scene as dask, read block by block from raw bytes."""
    import dask.array as da
    import rioxarray  # noqa: F401  (registers `.rio`)
    import xarray as xr

    raw = np.load(folder / "scene.npy", mmap_mode="r")
    sizes = ((raw.shape[0],), *(_chunks(n) for n in raw.shape[1:]))

    def load(block_info: Any = None) -> NDArray[Any]:
        where = tuple(slice(*s) for s in block_info[None]["array-location"])
        mapped = np.load(folder / "scene.npy", mmap_mode="r")
        return np.array(mapped[where])

    meta = np.empty((0, 0, 0), raw.dtype)
    array = da.map_blocks(load, chunks=sizes, dtype=raw.dtype, meta=meta)
    data = xr.DataArray(array, dims=("band", "y", "x"), name="scene")
    a, _, c, _, e, f = PLACE["transform"]
    data = data.assign_coords(
        x=c + a * (np.arange(raw.shape[2]) + 0.5),
        y=f + e * (np.arange(raw.shape[1]) + 0.5),
    )
    return data.rio.write_crs(PLACE["crs"])


def _chunks(n: int) -> tuple[int, ...]:
    return tuple(min(CHUNK, n - start) for start in range(0, n, CHUNK))


def _open_flac(folder: Path, **options: Any) -> Any:
    import xarray as xr

    options = {"mask_and_scale": False, **options}
    ds = xr.open_dataset(folder / "scene.flac", engine="flacraster", **options)
    return ds.band_data


def _open_cog(folder: Path, **options: Any) -> Any:
    import rioxarray

    return rioxarray.open_rasterio(folder / "scene.tif", **options)


READERS: Final[dict[str, Callable[[Path], Any]]] = {
    "ours, plain open": _open_flac,
    "ours, chunks='auto'": lambda f: _open_flac(f, chunks="auto"),
    "rioxarray, chunks='auto'": lambda f: _open_cog(f, chunks="auto"),
    "rioxarray, chunks='auto', lock=False": lambda f: _open_cog(
        f, chunks="auto", lock=False
    ),
    "rioxarray, 2048, lock=False": lambda f: _open_cog(
        f, chunks={"band": -1, "y": CHUNK, "x": CHUNK}, lock=False
    ),
}


def _write_flac(data: Any, target: Path, threads: int) -> None:
    from flac_xarray import write

    write(data, target, tile_size=TILE, threads=threads, overwrite=True)


def _write_raster(data: Any, target: Path, threads: int, driver: str) -> None:
    import dask

    tiled = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "predictor": 2}
    cog = {"blocksize": TILE, "overviews": "NONE", "predictor": "YES"}
    with dask.config.set(scheduler="threads", num_workers=threads):
        data.rio.to_raster(
            target,
            driver=driver,
            compress="DEFLATE",
            num_threads=threads,
            lock=threading.Lock() if driver == "GTiff" else None,
            **(tiled if driver == "GTiff" else cog),
        )


WRITERS: Final[dict[str, tuple[str, Callable[[Any, Path, int], None]]]] = {
    "ours": ("flac", _write_flac),
    "rioxarray, GTiff DEFLATE": (
        "tif",
        lambda d, t, n: _write_raster(d, t, n, "GTiff"),
    ),
    "rioxarray, COG DEFLATE": ("tif", lambda d, t, n: _write_raster(d, t, n, "COG")),
}


def read_once(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Time a mean over the scene, opening included."""
    import dask

    with dask.config.set(scheduler="threads", num_workers=threads):
        READERS[name](folder)[:, :8, :8].load()  # imports are not what is measured
        start = time.perf_counter()
        value = float(READERS[name](folder).mean())
    return {"seconds": time.perf_counter() - start, "value": value}


def write_once(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Time writing the scene; then compare what was written with the raw bytes."""
    suffix, writer = WRITERS[name]
    target = folder / f"written.{suffix}"
    data = scene(folder)
    writer(data[:, :TILE, :TILE], target, threads)  # imports are not what is measured
    start = time.perf_counter()
    writer(data, target, threads)
    seconds = time.perf_counter() - start
    peak = _peak()  # before the comparison
    value = _differences(target, folder)
    nbytes = target.stat().st_size
    target.unlink()
    return {"seconds": seconds, "value": value, "peak": peak, "mb": nbytes / 1e6}


def _differences(target: Path, folder: Path) -> int:
    raw = np.load(folder / "scene.npy", mmap_mode="r")
    if target.suffix == ".flac":
        from flac_xarray import FlacRaster, Window

        raster = FlacRaster.open(target)

        def read(row: int, n: int) -> NDArray[Any]:
            return raster.read(Window(row, 0, n, raw.shape[2]))
    else:
        import rasterio

        dataset = rasterio.open(target)

        def read(row: int, n: int) -> NDArray[Any]:
            return dataset.read(window=((row, row + n), (0, raw.shape[2])))

    wrong = 0
    for row in range(0, raw.shape[1], TILE):
        n = min(TILE, raw.shape[1] - row)
        wrong += int((read(row, n) != raw[:, row : row + n]).sum())
    return wrong


def cluster_once(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Time a write or a mean on a LocalCluster of one-thread processes."""
    import dask
    from distributed import Client, LocalCluster

    what, workers = name.split(", ")
    del threads
    with (
        dask.config.set({"distributed.worker.memory.target": False}),
        LocalCluster(
            n_workers=int(workers.split()[0]),
            threads_per_worker=1,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(_warm)
        _write_flac(scene(folder)[:, :TILE, :TILE], folder / "written.flac", 1)
        float(_open_flac(folder)[:, :8, :8].mean())
        start = time.perf_counter()
        value: float = 0
        if what == "write":
            _write_flac(scene(folder), folder / "written.flac", 1)
        else:
            value = float(_open_flac(folder, chunks="auto").mean())
        seconds = time.perf_counter() - start
        peaks = client.run(_peak)
    if what == "write":
        value = _differences(folder / "written.flac", folder)
        (folder / "written.flac").unlink()
    return {"seconds": seconds, "value": value, "peak": max(peaks.values())}


def _warm() -> None:
    """Import what the tasks need, as a cluster that runs has."""
    import flac_xarray.tile_job
    import flac_xarray.xarray_backend  # noqa: F401


def _peak() -> float:
    """Peak memory of this process so far, MB; of Linux."""
    # Not getrusage: what it says a child inherits from its parent.
    status = Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


CLUSTERS: Final = ("write, 1 process", "write, 2 processes", "mean, 1 process")
CASES: Final[dict[str, tuple[Any, Callable[..., dict[str, Any]]]]] = {
    "read": (READERS, read_once),
    "write": (WRITERS, write_once),
    "cluster": ((*CLUSTERS, "mean, 2 processes"), cluster_once),
}


def measure(what: str, name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.dask_io"]
    command += ["--one", what, name, str(folder), str(threads)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        raise SystemExit(f"{what}, {name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(what: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the best of each, and all as ratios to the first."""
    first = min(run["seconds"] for run in next(iter(found.values())))
    print(
        f"\n| {what} | seconds | relative | peak MB | size MB |\n|---|---|---|---|---|"
    )
    for name, runs in found.items():
        best = min(run["seconds"] for run in runs)
        peak = max(run["peak"] for run in runs)
        size = f"{runs[0]['mb']:.0f}" if "mb" in runs[0] else ""
        print(f"| {name} | {best:.2f} | {best / first:.2f} | {peak:.0f} | {size} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--size", type=int, default=10_980)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--only", default="read,write,cluster")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, name, folder, threads = args.one
        run = CASES[what][1](name, Path(folder), int(threads))
        print(json.dumps({"peak": _peak(), **run}))
        return
    with tempfile.TemporaryDirectory(prefix="dask-io-") as temporary:
        folder = Path(temporary)
        prepare(args.file, args.size, folder, args.threads)
        for name in ("scene.npy", "scene.flac", "scene.tif"):
            print(f"{name}: {(folder / name).stat().st_size / 1e6:.0f} MB")
        for what in args.only.split(","):
            found: dict[str, list[dict[str, Any]]] = {n: [] for n in CASES[what][0]}
            for _ in range(args.repeat):
                for name, runs in found.items():
                    runs.append(measure(what, name, folder, args.threads))
            values = {run["value"] for runs in found.values() for run in runs}
            if what == "read" and len(values) > 1:
                low, high = min(values), max(values)
                if high - low > 1e-9 * abs(high):  # sums in another order
                    raise SystemExit(f"means differ: {values}")
            elif what == "write" and values != {0}:
                raise SystemExit(f"pixels differ: {values}")
            report(what, found)


if __name__ == "__main__":
    main()
