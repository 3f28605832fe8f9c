"""Reading a raster over a slow link, against rasterio on a COG and xarray on Zarr.

``python -m benchmarks.remote FILE [--size 10980] [--tile 512] [--latency 0 20 100]
[--mbit 200] [--tasks tile 3x3 all "all, dask"]``

The file's first band is repeated up to a square and written as a FLAC raster, as a COG
(DEFLATE, predictor, same tile size, no overviews) and as Zarr v3 (its default zstd,
same chunks). A server in a process of its own is a round trip away from everybody
(`benchmarks.slow_server`). Every measurement is a process of its own that has read a
small raster from another server, so that its libraries are loaded, and knows nothing of
this one: no connection, no header, no tile. Readers take turns, medians are shown with
the requests and bytes that the server counted, and every result's pixels are compared
by checksum. ``--fresh`` measures whole processes instead, from the start of the
interpreter, imports included. A new connection costs a round trip more, as TCP's
handshake does; with ``--no-handshake`` it costs none.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.reading import grown
from benchmarks.remote_readers import READERS, TASKS, Task, write_all
from benchmarks.slow_server import counts, slow_server

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

LIMIT_SECONDS = 300.0
WARM_TILES = 4
"""Tiles along a side of the raster that is read before anything is measured."""
NO_DASK = {"COG, rasterio"}
NO_TWIN = {"FLAC raster"}
"""For whole scenes it is the same as with xarray."""


@dataclass(frozen=True)
class Found:
    """One reader on one task."""

    seconds: float
    peak_nbytes: int
    """Of memory, beyond what the process had; 0 where it is not known."""
    requests: int
    nbytes: int


def crc_of(pixels: NDArray[Any]) -> int:
    """Checksum that tells other pixels."""
    return zlib.crc32(np.ascontiguousarray(pixels))


def read_once(name: str, url: str, task: Task, tile: int, size: int) -> NDArray[Any]:
    """Open and read."""
    reader = READERS[name]
    return reader.read(f"{url}/{reader.file}", task, task.window(tile, size))


def _child(
    tell: Connection, warm_url: str, name: str, url: str, task: Task, *sizes: int
) -> None:
    tile, _ = sizes
    read_once(name, warm_url, task, tile, WARM_TILES * tile)
    before = _forget_peak()
    start = time.perf_counter()
    pixels = read_once(name, url, task, *sizes)
    seconds = time.perf_counter() - start
    tell.send((seconds, _status_nbytes("VmHWM") - before, crc_of(pixels)))


def _forget_peak() -> int:
    """Let the peak of memory be what is in use, and give that."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_nbytes("VmRSS")


def _status_nbytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(f"{name}:"))


def loaded(
    warm_url: str, name: str, url: str, task: Task, *sizes: int
) -> tuple[float, int, int]:
    """Measure in a copy of this process, after a small read elsewhere."""
    READERS[name].load()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_child, args=(there, warm_url, name, url, task, *sizes), daemon=True
    )
    process.start()
    there.close()
    try:
        if not here.poll(LIMIT_SECONDS):
            msg = f"{name} hangs: {task.name}"
            raise SystemExit(msg)
        found: tuple[float, int, int] = here.recv()
        return found
    finally:
        process.terminate()
        process.join()


def fresh(
    name: str, url: str, task: Task, tile: int, size: int
) -> tuple[float, int, int]:
    """Measure a whole process, from the start of the interpreter."""
    what = [name, url, task.name, str(tile), str(size)]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.remote", "--one", *what],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_SECONDS,
    )
    return time.perf_counter() - start, 0, int(done.stdout.split()[-1])


def measure(
    warm_url: str, url: str, band: NDArray[Any], args: argparse.Namespace, task: Task
) -> dict[str, Found]:
    """Measure every reader on one task, in turn."""
    expected = crc_of(band[task.window(args.tile, args.size)])
    seconds: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, int] = defaultdict(int)
    moved: dict[str, tuple[int, int]] = {}
    for _ in range(args.repeats):
        for name, reader in READERS.items():
            left_out = (task.dask and name in NO_DASK) or (
                task.tiles is None and name in NO_TWIN
            )
            if left_out or reader.missing:
                continue
            what = (name, url, task, args.tile, args.size)
            run = fresh(*what) if args.fresh else loaded(warm_url, *what)
            took, peak, checksum = run
            if checksum != expected:
                msg = f"{name} read other pixels: {task.name}"
                raise SystemExit(msg)
            seconds[name].append(took)
            peaks[name] = max(peaks[name], peak)
            moved[name] = counts(url)
    return {
        name: Found(statistics.median(values), peaks[name], *moved[name])
        for name, values in seconds.items()
    }


def show(task: Task, found: dict[str, Found]) -> None:
    """Print a row per reader, and ours over the faster peer."""
    for name, one in found.items():
        print(
            f"  {task.name:10s} {name:14s} {one.seconds:8.3f} s "
            f"{one.requests:6d} requests {one.nbytes / 1e6:9.3f} MB, "
            f"{one.peak_nbytes / 1e6:6.0f} MB of memory"
        )
    peers = {n: f.seconds for n, f in found.items() if not n.startswith("FLAC")}
    ours = {n: f.seconds for n, f in found.items() if n.startswith("FLAC")}
    for name, seconds in ours.items():
        ratios = ", ".join(f"{seconds / s:.2f} of {n}" for n, s in peers.items())
        print(f"  {'':10s} {name}: {ratios}")


def show_bytes(url: str, band: NDArray[Any], tile: int) -> None:
    """Print what one tile saves, and what nine move beyond their own bytes."""
    from flac_xarray import FlacRaster

    with FlacRaster.open(f"{url}/a.flac") as raster:
        whole, opening = raster.nbytes or 0, raster.stats.nbytes
        for name in ("tile", "3x3"):
            rows, cols = TASKS[name].window(tile, band.shape[0])
            plan = raster.plan((slice(0, 1), rows, cols))
            moved = opening + plan.request_nbytes
            print(
                f"  {name}: {moved} of {whole} bytes moved, opening included: "
                f"{1 - moved / whole:.2%} saved; the tiles' requests are "
                f"{plan.request_nbytes / plan.tile_nbytes:.3f} of their bytes"
            )


def main() -> None:
    """Print a table per latency."""
    if sys.argv[1:2] == ["--one"]:
        name, url, task, tile, size = sys.argv[2:]
        print(crc_of(read_once(name, url, TASKS[task], int(tile), int(size))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency", type=int, nargs="+", default=[0, 20, 100])
    parser.add_argument("--mbit", type=float, default=0, help="of the link; 0: any")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--no-handshake", action="store_true")
    args = parser.parse_args()
    for name, reader in READERS.items():
        if reader.missing:
            print(f"{name}: left out, not installed: {', '.join(reader.missing)}")
    band = grown(args.file, args.size)
    side = WARM_TILES * args.tile
    with ExitStack() as stack:
        folder, warm = (
            Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)
        )
        write_all(folder, band, args.tile)
        write_all(warm, np.ascontiguousarray(band[:side, :side]), args.tile)
        warm_url = stack.enter_context(slow_server(warm, 0.0))
        for latency in args.latency:
            link = (latency / 1000, args.mbit * 1e6 / 8)
            with slow_server(folder, *link, handshake=not args.no_handshake) as url:
                speed = f"{args.mbit:g} Mbit/s" if args.mbit else "unlimited"
                print(
                    f"\nlatency {latency} ms, {speed}, "
                    f"{args.size} x {args.size} {band.dtype}"
                )
                for name in args.tasks:
                    found = measure(warm_url, url, band, args, TASKS[name])
                    show(TASKS[name], found)
                if latency == args.latency[-1]:
                    show_bytes(url, band, args.tile)


if __name__ == "__main__":
    main()
