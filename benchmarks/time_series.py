"""Opening a time series of many files over a slow link with `xarray.open_mfdataset`.

``python -m benchmarks.time_series [--files 50] [--latency 20]``

Against opening the same files all at once by hand, one thread a file, and combining
them. Every measurement is a process of its own that has done the same with files of
another server, so that its libraries are loaded, and has no connection and no header
yet; ways take turns, medians are shown with the server's requests, and over the time by
hand.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import xarray as xr

import flac_xarray
from benchmarks.remote_readers import READERS
from benchmarks.slow_server import counts, slow_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

OPTIONS: dict[str, Any] = {"engine": "flacraster"}
COMBINE: dict[str, Any] = {
    "combine": "nested",
    "concat_dim": "time",
    "data_vars": "all",
    "coords": "minimal",
    "compat": "override",
    "join": "override",
}


def write_series(folder: Path, n: int) -> None:
    """Write one file a day."""
    rng = np.random.default_rng(1)
    field = rng.integers(-20, 21, (512, 512)).cumsum(0).cumsum(1)
    for day in range(n):
        ds = xr.Dataset(
            {"t2m": (("time", "y", "x"), (field + day)[np.newaxis].astype("int32"))},
            {
                "time": np.array(["2024-01-01"], "datetime64[ns]")
                + np.timedelta64(day, "D"),
                "y": np.arange(512.0),
                "x": np.arange(512.0),
            },
        )
        flac_xarray.write(ds, folder / f"day{day:03d}.flac", tile_size=256)


def by_hand(urls: list[str]) -> xr.Dataset:
    """Open all at once."""
    with ThreadPoolExecutor(len(urls)) as pool:
        parts = list(pool.map(lambda url: xr.open_dataset(url, **OPTIONS), urls))
    options = {k: v for k, v in COMBINE.items() if k != "combine"}
    return xr.combine_nested(parts, **options)


def one_by_one(urls: list[str]) -> xr.Dataset:
    """Open with `open_mfdataset`."""
    return xr.open_mfdataset(urls, **OPTIONS, **COMBINE)


def parallel(urls: list[str]) -> xr.Dataset:
    """Open with ``open_mfdataset(parallel=True)`` on dask's own number of threads."""
    return xr.open_mfdataset(urls, parallel=True, **OPTIONS, **COMBINE)


def parallel_wide(urls: list[str]) -> xr.Dataset:
    """Open with ``open_mfdataset(parallel=True)``, one thread a file."""
    with dask.config.set(scheduler="threads", num_workers=len(urls)):
        return xr.open_mfdataset(urls, parallel=True, **OPTIONS, **COMBINE)


def headers_first(urls: list[str]) -> xr.Dataset:
    """Fetch all headers together, then open with `open_mfdataset`."""
    flac_xarray.fetch_headers(urls)
    return xr.open_mfdataset(urls, **OPTIONS, **COMBINE)


WAYS: dict[str, Callable[[list[str]], xr.Dataset]] = {
    "by hand": by_hand,
    "open_mfdataset": one_by_one,
    "parallel=True": parallel,
    "parallel=True, wide": parallel_wide,
    "fetch_headers, then open": headers_first,
}


def _child(tell: Connection, way: str, warm: list[str], urls: list[str]) -> None:
    WAYS[way](warm)
    start = time.perf_counter()
    ds = WAYS[way](urls)
    tell.send((time.perf_counter() - start, dict(ds.sizes)))


def measure(way: str, warm: list[str], urls: list[str]) -> float:
    """Measure once, in a copy of this process, after opening others."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_child, args=(there, way, warm, urls), daemon=True
    )
    process.start()
    there.close()
    if not here.poll(120):
        msg = f"{way} hangs"
        raise SystemExit(msg)
    seconds, sizes = here.recv()
    process.join(10)
    if sizes["time"] != len(urls):
        msg = f"{way} opened something else: {sizes}"
        raise SystemExit(msg)
    found: float = seconds
    return found


def main() -> None:
    """Print a row per way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--latency", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    READERS["FLAC, xarray"].load()
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), args.files)
        with (
            slow_server(Path(folder), 0.0) as warm_url,
            slow_server(Path(folder), args.latency / 1000) as url,
        ):
            warm, urls = (
                [f"{at}/day{day:03d}.flac" for day in range(args.files)]
                for at in (warm_url, url)
            )
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            requests = {}
            for _ in range(args.repeats):
                for way, taken in seconds.items():
                    taken.append(measure(way, warm, urls))
                    requests[way] = counts(url)[0]
    base = statistics.median(seconds["by hand"])
    for way, taken in seconds.items():
        middle = statistics.median(taken)
        print(
            f"{way:26s} {middle:7.3f} s {requests[way]:5d} requests "
            f"{middle / base:5.2f} of by hand"
        )


if __name__ == "__main__":
    main()
