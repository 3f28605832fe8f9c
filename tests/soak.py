"""Read random windows through a faulty server for long: ``python -m tests.soak 600``.

Strategy: the server is a process of its own, so that what is measured is the reader: 8
threads share rasters, open them again and again, and use xarray between; every answer
is compared with the array in memory. Memory is looked at all along, file descriptors
and threads when all is closed.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flac_xarray import header_cache
from flac_xarray.array_writer import write_array
from flac_xarray.errors import FlacRasterError
from flac_xarray.grid import Window
from flac_xarray.reader import FlacRaster
from flac_xarray.sources import FetchLimits, open_source
from tests.servers import FaultHandler, FaultServer, Reset, ShortBody, Stall, Status

THREADS = 8
SIZE = 400
PERIOD = 701
"""A prime: faults come in the same order again after so many requests."""
KEPT_ALIVE = 20.0
"""Seconds that an idle connection stays open at most: aiohttp has 15."""
LIMITS = FetchLimits(timeout=1.0, backoff=0.002, retries=1)


def corrupt(handler: FaultHandler) -> None:
    """Flip one bit in the middle of the body."""

    def send_body(read: Any, nbytes: int) -> None:
        del handler.send_body
        body = bytearray(read(nbytes))
        body[len(body) // 2] ^= 4
        handler.send_body(io.BytesIO(bytes(body)).read, nbytes)

    handler.send_body = send_body


def fault(handler: FaultHandler, number: int) -> bool:
    """Do something bad every now and then."""
    k = number % PERIOD
    if k % 37 == 5:
        return Status(503)(handler, 0)
    if k % 41 == 7:
        return ShortBody(100)(handler, 0)
    if k % 53 == 11:
        return Reset()(handler, 0)
    if k % 59 == 13:
        corrupt(handler)
    elif k % 61 == 17:
        handler.rewrite = {"Content-Range": "bytes 0-9/99"}
    elif k == 500:
        return Stall(50)(handler, 0)
    return False


def serve(folder: Path) -> None:
    """Serve until standard input ends; tell the URL on standard output."""
    with FaultServer(folder) as server:
        server.seen = deque(maxlen=10)
        server.faults = [fault]
        print(server.url, flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run `serve` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak", "--serve", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(slots=True)
class Outcome:
    """What came of a soak."""

    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    """``right``, or the name of the error."""
    wrong: list[str] = field(default_factory=list)
    """What must not be."""
    rss: list[tuple[float, int]] = field(default_factory=list)
    """Seconds and bytes of memory."""
    fds: tuple[int, int] = (0, 0)
    """File descriptors before and after."""
    threads: tuple[int, int] = (0, 0)
    """Threads before and after."""

    def growth(self) -> int:
        """Bytes that memory is larger at the end than after a third of the time."""
        third = len(self.rss) // 3
        middle = [n for _, n in self.rss[third : 2 * third]]
        return max(n for _, n in self.rss[2 * third :]) - max(middle)


def forget_headers() -> None:
    """Let the next open be a first one."""
    with header_cache._lock:  # noqa: SLF001
        header_cache._files.clear()  # noqa: SLF001


def rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count is enough


def wait_for_fds(wanted: int, seconds: float) -> int:
    """Give idle connections, which are kept open for a while, time to close."""
    end = time.monotonic() + seconds
    while fds() > wanted and time.monotonic() < end:
        time.sleep(0.1)
    return fds()


def threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


def truth() -> np.ndarray:
    rng = np.random.default_rng(9)
    y, x = np.mgrid[:SIZE, :SIZE]
    pixels = 1000 + 200 * np.sin(y / 30) * np.cos(x / 40)
    return (pixels + rng.integers(0, 9, (2, SIZE, SIZE))).astype("int16")


def _window(rng: random.Random) -> Window:
    row, col = rng.randrange(SIZE), rng.randrange(SIZE)
    height = min(rng.randrange(1, 150), SIZE - row)
    return Window(row, col, height, min(rng.randrange(1, 150), SIZE - col))


class Soak:
    """Threads that read until it is time."""

    def __init__(self, url: str, pixels: np.ndarray) -> None:
        self.url = url
        self.pixels = pixels
        self.outcome = Outcome()
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._shared: FlacRaster | None = None

    def open(self) -> FlacRaster:
        source = open_source(self.url, limits=LIMITS)
        return FlacRaster.open(source, threads=2, cache_nbytes=1 << 18)

    def shared(self) -> FlacRaster:
        """Give the raster that the threads share; a new one every now and then."""
        with self._lock:
            if self._shared is None:
                self._shared = self.open()
            return self._shared

    def read_once(self, rng: random.Random) -> None:
        window = _window(rng)
        rows, cols = window.slices
        way = rng.random()
        if way < 0.7:
            found = self.shared().read(window)
        elif way < 0.95:
            forget_headers()
            with self.open() as raster:
                found = raster.read(window, threads=1)
        else:
            with xr.open_dataset(
                self.url, engine="flacraster", chunks=None, cache=False
            ) as dataset:
                found = dataset.band_data[:, rows, cols].values.astype("int16")
        if not np.array_equal(found, self.pixels[:, rows, cols]):
            self.outcome.wrong.append(f"other pixels in {window}")

    def work(self, number: int) -> None:
        rng = random.Random(number)
        while not self.stop.is_set():
            try:
                self.read_once(rng)
                answer = "right"
            except FlacRasterError as error:
                answer = type(error).__name__
            except BaseException as error:  # it is what is looked for
                answer = f"{type(error).__name__}: {error}"
                self.outcome.wrong.append(answer)
            with self._lock:
                self.outcome.answers[answer] += 1

    def run(self, seconds: float) -> Outcome:
        """Soak for so long."""
        for _ in range(5):  # what stays after a first use, such as fsspec's thread
            with contextlib.suppress(FlacRasterError), self.open() as raster:
                raster.read()
            with contextlib.suppress(FlacRasterError):
                xr.open_dataset(self.url, engine="flacraster", chunks=None).close()
        _settle()
        before = (fds(), threads())
        workers = [
            threading.Thread(target=self.work, args=(k,)) for k in range(THREADS)
        ]
        since = time.monotonic()
        for worker in workers:
            worker.start()
        while (passed := time.monotonic() - since) < seconds:
            time.sleep(min(1.0, seconds / 40))
            self.outcome.rss.append((passed, rss()))
        self.stop.set()
        for worker in workers:
            worker.join(60)
            if worker.is_alive():
                self.outcome.wrong.append("a thread does not end")
        if self._shared is not None:
            self._shared.close()
        self._shared = None
        self.outcome.seconds = time.monotonic() - since
        _settle()
        self.outcome.fds = (before[0], wait_for_fds(before[0], KEPT_ALIVE))
        self.outcome.threads = (before[1], threads())
        return self.outcome


def _settle() -> None:
    """Let go of what only waits for its turn to be closed."""
    forget_headers()
    gc.collect()
    time.sleep(0.5)
    gc.collect()


def soak(seconds: float) -> Outcome:
    """Write a file, serve it badly, and read it for so long."""
    with tempfile.TemporaryDirectory() as name:
        pixels = truth()
        write_array(Path(name, "a.flac"), pixels, tile_size=64, crs="EPSG:4326")
        with serving(Path(name)) as url:
            return Soak(f"{url}/a.flac", pixels).run(seconds)


def main() -> int:
    if sys.argv[1] == "--serve":
        serve(Path(sys.argv[2]))
        return 0
    done = soak(float(sys.argv[1]))
    reads = sum(done.answers.values())
    print(f"{done.seconds:.0f} s, {reads} reads: {dict(done.answers)}")
    step = max(1, len(done.rss) // 20)
    print("MiB:", " ".join(f"{n / 2**20:.0f}" for _, n in done.rss[::step]))
    print(
        f"growth {done.growth() / 2**20:.1f} MiB, "
        f"fds {done.fds}, threads {done.threads}"
    )
    print("wrong:", done.wrong[:10])
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
