"""Fork a process whose threads open and read, and read in the children.

``python -m tests.forked_reads TARGET PIXELS.npy FORKS [held] [memory]`` exits with the
number of children that did not read right. Threads of the parent open TARGET and read
from it all the time; with ``held`` they also hold every lock of the package at each
fork, and are in the midst of opening. A child that hangs is ended by an alarm.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import Future
from pathlib import Path

import dask
import numpy as np
import xarray as xr

from flac_xarray import FlacRaster, forking, header_cache, lazy_array

CHILD_SECONDS = 120


class Reads:
    """Everything that is open before the forks."""

    def __init__(self, target, pixels, in_memory):
        self.path, self.pixels = target, pixels
        self.data = Path(target).read_bytes() if in_memory else None
        self.raster = FlacRaster.open(self.target, threads=2)
        self.lazy = self.open_lazy()
        self.lazy_token = next(reversed(lazy_array._open_rasters))  # noqa: SLF001
        self.dask = xr.open_dataset(self.target, engine="flacraster", chunks={})
        self.stop = threading.Event()

    @property
    def target(self):
        return self.path if self.data is None else io.BytesIO(self.data)

    def open_lazy(self):
        return xr.open_dataset(
            self.target, engine="flacraster", chunks=None, cache=False
        )

    def check(self):
        """Read what was open and what is opened now; raises where it is wrong."""
        same = np.testing.assert_array_equal
        same(self.raster.read(), self.pixels)
        same(self.lazy.band_data[:, 3:90, 5:70].values, self.pixels[:, 3:90, 5:70])
        with FlacRaster.open(self.target) as raster:
            same(raster.read(threads=3), self.pixels)
        with self.open_lazy() as again:
            same(again.band_data[:, ::7, 4].values, self.pixels[:, ::7, 4])

    def check_dask(self):
        """Compute; not in several threads, for dask's own locks are no forks' friends.

        The threads of its pool are the parent's, too.
        """
        with dask.config.set(scheduler="synchronous"):
            np.testing.assert_array_equal(self.dask.band_data.compute(), self.pixels)

    def open_and_read(self):
        """Open anew and read until the end of the process."""
        while not self.stop.is_set():
            for key in list(header_cache._files):  # noqa: SLF001
                header_cache.forget(key)
            for token in list(lazy_array._open_rasters):  # noqa: SLF001
                lazy_array.RasterRef(token).close()
            self.check()


def hold(locks, begun, end):
    """Hold locks while others fork, as a thread does that is in the midst of things."""
    held = [lock for lock in locks if lock.acquire(blocking=False)]
    begun.set()
    end.wait()
    for lock in held:
        lock.release()


def forked(reads):
    """Fork; give the child's id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(CHILD_SECONDS)
        reads.check()
        reads.check_dask()
        code = 0
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def main(target, pixels, forks, *words):
    reads = Reads(target, np.load(pixels), "memory" in words)
    reads.check()
    busy = [threading.Thread(target=reads.open_and_read, daemon=True) for _ in range(3)]
    for thread in busy:
        thread.start()
    bad = 0
    for _ in range(int(forks)):
        begun, end = threading.Event(), threading.Event()
        if "held" in words:
            held = list(forking._locks)  # noqa: SLF001
            threading.Thread(target=hold, args=(held, begun, end)).start()
            begun.wait()
            opening = Future()
            rasters = lazy_array._open_rasters  # noqa: SLF001
            rasters.update(dict.fromkeys(list(rasters), opening))
            rasters[reads.lazy_token] = opening
        pid = forked(reads)
        end.set()
        if "held" in words:
            with contextlib.suppress(Exception):
                opening.set_result(reads.raster)
        _, status = os.waitpid(pid, 0)
        bad += status != 0
    reads.stop.set()
    for thread in busy:
        thread.join()
    reads.check()
    sys.stdout.flush()
    return bad


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
