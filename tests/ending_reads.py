"""End a process in the midst of reading.

``python -m tests.ending_reads MODE TARGET PIXELS.npy`` prints ``right`` for every read
that had to come to its end, ``wrong`` never.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from pathlib import Path

import dask
import numpy as np
import xarray as xr

from flac_xarray import FlacRaster, FlacRasterWriter
from flac_xarray.errors import SourceError


class Reads:
    def __init__(self, target, pixels):
        self.target = target
        self.pixels = np.load(pixels)
        self.expected = self.pixels.tobytes()
        self.raster = FlacRaster.open(target, threads=3, cache_nbytes=0)
        self.begun = threading.Barrier(4)
        self.late = None

    def once(self):
        """Read and compare."""
        # Compared as bytes: late in its life NumPy's comparison finds no module more.
        if self.raster.read().tobytes() != self.expected:
            os.write(1, b"wrong\n")
            os._exit(9)

    def often(self, times=10**9):
        """Read; the first time is over when others go on."""
        self.once()
        self.begun.wait()
        try:
            for _ in range(times):
                self.once()
        except SourceError:
            # A daemon outlives the end of the main thread, when connections are closed.
            if threading.main_thread().is_alive():
                raise

    def start(self, *, daemon, times=10**9):
        """Have three threads read, and come back in the midst of it."""
        for _ in range(3):
            threading.Thread(target=self.often, args=(times,), daemon=daemon).start()
        self.begun.wait()
        time.sleep(0.05)


class Late:
    """Reads when the interpreter takes its modules apart, which may be refused."""

    def __init__(self, reads):
        self.reads = reads

    def __del__(self):
        try:
            self.reads.once()
        except SourceError:
            os.write(1, b"refused\n")
        else:
            os.write(1, b"right\n")


def daemon(reads):
    reads.start(daemon=True)


def plain(reads):
    reads.start(daemon=False, times=5)
    # Called when they have ended.
    atexit.register(sys.stdout.write, "right\n")


def computing(reads):
    ds = xr.open_dataset(reads.target, engine="flacraster", chunks={})

    def compute():
        for k in range(10**9):
            try:
                found = ds.band_data.compute(scheduler="threads", num_workers=3)
            except RuntimeError as error:  # of dask's pool
                if "cannot schedule new futures" in str(error):
                    return
                raise
            if not (found == reads.pixels).all():
                os._exit(9)
            if not k:
                reads.begun.wait()

    for _ in range(3):
        threading.Thread(target=compute, daemon=True).start()
    reads.begun.wait()
    time.sleep(0.05)


def ahead(reads):
    ds = xr.open_dataset(reads.target, engine="flacraster", chunks={})
    with dask.config.set(scheduler="synchronous"):
        ds.band_data[:, :40, :40].load()
        ds.band_data.data.blocks[0, 0, 0].compute()
    layer = dict(next(iter(ds.band_data.data.dask.layers.values())))
    (plan,) = [task() for key, task in layer.items() if not isinstance(key, tuple)]
    plan.read((slice(0, 1), slice(0, 32), slice(0, 32)))


def generator(reads):
    arriving = reads.raster.fetch_tiles(0, range(100))
    next(arriving)
    reads.late = arriving


def writer(reads):
    header = reads.raster.header
    reads.late = FlacRasterWriter.create("unfinished.flac", header)
    reads.late.write_tiles([(0, (0, 0, 0), lambda: reads.pixels[:1, :32, :32])])
    if os.fork():
        os.wait()
    else:  # a fork's end is not the writer's
        sys.exit(0)
    sys.stdout.writelines(path.name for path in Path().glob(".unfinished*.part"))


def leaving(reads):
    reads.start(daemon=True)
    sys.exit(3)


def killed(reads):
    reads.start(daemon=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def interrupted(reads):
    def interrupt():
        reads.begun.wait()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    reads.begun = threading.Barrier(2)
    threading.Thread(target=interrupt, daemon=True).start()
    reads.often()


def at_exit(reads):
    def read():
        reads.once()
        sys.stdout.write("right\n")

    reads.start(daemon=True)
    atexit.register(read)
    # As concurrent.futures does: before other threads have ended.
    threading._register_atexit(read)  # noqa: SLF001


def late(reads):
    sys.modules["tests.late"] = reads.late = Late(reads)


if __name__ == "__main__":
    reads = Reads(*sys.argv[2:4])
    globals()[sys.argv[1]](reads)
