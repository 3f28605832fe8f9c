"""Read and write with little memory.

``python -m tests.scarce_reads MEBIBYTES TARGET PIXELS.npy`` lets the process have so
many mebibytes of address space more than it has when all is imported and open. It
prints a line for each read and write: ``right``, ``wrong``, or the kind of error. An
alarm ends it when it hangs.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import xarray as xr

from flac_xarray import FlacRaster, write_array
from flac_xarray.errors import FlacRasterError

MIB = 1 << 20
HANGS_SECONDS = 280


def outcome(read, expected):
    """Say how a read went; its array is gone after that."""
    try:
        return "right" if read().tobytes() == expected else "wrong"
    except MemoryError:
        return "MemoryError"
    except SystemError as error:
        # How NumPy sometimes says that memory lacks.
        if "without" not in str(error) or "exception" not in str(error):
            raise
        return "MemoryError"
    except FlacRasterError as error:
        return type(error).__name__


def main(mebibytes, target, pixels):
    # Not of all threads: those that could not be started are many, and tell nothing.
    faulthandler.register(signal.SIGALRM, all_threads=False, chain=True)
    signal.alarm(HANGS_SECONDS)
    pixels = np.load(pixels)
    expected = pixels.tobytes()
    raster = FlacRaster.open(target, threads=8, cache_nbytes=0)
    options = {"engine": "flacraster", "mask_and_scale": False}
    lazy = xr.open_dataset(target, chunks=None, cache=False, **options)
    plan = xr.open_dataset(target, chunks={}, **options).band_data.data
    assert outcome(lambda: raster.read(threads=1), expected) == "right"
    layer = dict(next(iter(plan.dask.layers.values())))
    (plan,) = [task() for key, task in layer.items() if not isinstance(key, tuple)]
    whole = tuple(slice(0, n) for n in pixels.shape)
    assert outcome(lambda: plan.read(whole), expected) == "right"
    name = f"scarce-{os.getpid()}.flac"

    def write():
        write_array(name, pixels, tile_size=128, threads=4, overwrite=True)
        data = Path(name).read_bytes()
        with FlacRaster.open(data) as again:
            return again.read()

    told, limited = [], threading.Event()

    def read_often():
        limited.wait()
        told.extend([outcome(raster.read, expected) for _ in range(4)])

    # Started before: Python's own way to start a thread may hang without memory.
    threads = [threading.Thread(target=read_often) for _ in range(3)]
    for thread in threads:
        thread.start()
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = now + int(float(mebibytes) * MIB)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    limited.set()
    for _ in range(2):
        told += [
            outcome(raster.read, expected),
            outcome(lazy.band_data.to_numpy, expected),
            outcome(lambda: plan.read(whole), expected),
            outcome(write, expected),
        ]
    for thread in threads:
        thread.join()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    # Afterwards it works as before.
    told.append(f"afterwards {outcome(raster.read, expected)}")
    sys.stdout.writelines(f"{line}\n" for line in told)


if __name__ == "__main__":
    main(*sys.argv[1:])
