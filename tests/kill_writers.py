"""Writers that are killed at random moments: what stands under the final name after.

``python -m tests.kill_writers --times 200`` kills that many and prints what it found,
one JSON object a line; the test suite runs a few of them. Each writer is a forked child
with everything imported, so that the moments lie in its writing and not in its imports.
The last writer is there to show that half a file would be found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dask
import dask.threaded
import numpy as np
import xarray as xr

import flac_xarray
import flac_xarray.dask_writer
from flac_xarray import FlacRaster, convert_to_flac, convert_to_geotiff
from flac_xarray.scenes import terrain_scene

OLD = b"the file that was there"
IN_PLACE = "in place, without care"
SIDE = 300


def fork(job: Callable[[], object]) -> int:
    """Do something in a child; its exit code is 0 when that went well."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            job()
            code = 0
        except BaseException:  # noqa: BLE001  # nobody else would tell
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


class Case:
    """One way to write: what it writes, and what a whole file of it looks like."""

    def __init__(
        self, folder: Path, name: str, write: Callable[[Path], object], *, is_new: bool
    ) -> None:
        self.name = name
        self.write = write
        self.old = None if is_new else OLD
        suffix = ".tif" if "GeoTIFF" in name else ".flac"
        self.target = folder / name.replace(" ", "-") / f"a{suffix}"
        self.target.parent.mkdir()
        self.reset()
        started = time.monotonic()
        self.in_child()
        self.seconds = time.monotonic() - started
        self.whole = self.target.read_bytes()

    def reset(self) -> None:
        """Put the old file back, or nothing; parts of killed writers stay."""
        self.target.unlink(missing_ok=True)
        if self.old is not None:
            self.target.write_bytes(self.old)

    def in_child(self, kill_after: float | None = None) -> bool:
        """Write in a forked process; whether it was still writing when killed."""
        pid = fork(lambda: self.write(self.target))
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0, self.name
        return os.WIFSIGNALED(status)

    def found(self) -> str:
        """What stands under the final name."""
        if not self.target.exists():
            return "nothing" if self.old is None else "LOST"
        data = self.target.read_bytes()
        if data in (self.whole, self.old):
            return "new" if data == self.whole else "old"
        # Tasks finish in any order, so the same pixels may make other bytes.
        _, status = os.waitpid(fork(lambda: self.check(data)), 0)
        return "HALF A FILE" if status else "new"

    def check(self, data: bytes) -> None:
        """Raise where these are not the bytes of the whole file in another order."""
        if data[4:12] != self.whole[4:12]:  # nothing to print: it is not even ours
            os._exit(1)
        with FlacRaster.open(data) as found, FlacRaster.open(self.whole) as whole:
            np.testing.assert_array_equal(found.read(), whole.read())

    def parts(self) -> int:
        return sum(path != self.target for path in self.target.parent.iterdir())


def cases(folder: Path) -> list[Case]:
    scene = terrain_scene(SIDE, SIDE, seed=3)
    tif, flac = folder / "in.tif", folder / "in.flac"
    scene.write_geotiff(tif)
    pixels = np.stack([scene.pixels[0]] * 3)
    options = {"tile_size": 64, "threads": 2}
    flac_xarray.write_array(flac, pixels, **options)

    def to_flac(target: Path) -> None:
        convert_to_flac(tif, target, overwrite=True, **options)

    def to_geotiff(target: Path) -> None:
        with FlacRaster.open(flac) as raster:
            convert_to_geotiff(raster, target, overwrite=True, threads=1)

    def from_array(target: Path) -> None:
        flac_xarray.write_array(target, pixels, overwrite=True, **options)

    def from_dask(target: Path) -> None:
        lazy = xr.DataArray(pixels, dims=("band", "y", "x"), name="a")
        with dask.config.set(scheduler="threads", num_workers=2):
            chunks = lazy.chunk({"y": 64, "x": 64})
            flac_xarray.write(chunks, target, overwrite=True, tile_size=64)

    def in_place(target: Path) -> None:
        with target.open("wb") as out:
            for _ in range(50):
                out.write(bytes(10_000))
                time.sleep(0.001)

    safe = [
        Case(folder, f"{name} {'new' if is_new else 'over old'}", write, is_new=is_new)
        for name, write in (
            ("GeoTIFF to FLAC", to_flac),
            ("FLAC to GeoTIFF", to_geotiff),
            ("array to FLAC", from_array),
            ("dask to FLAC", from_dask),
        )
        for is_new in (True, False)
    ]
    return [*safe, Case(folder, IN_PLACE, in_place, is_new=True)]


def kill_all(
    folder: Path, times: int, seed: int, only: str = ""
) -> dict[str, Counter[str]]:
    """Kill writers, one way after another; then let each of them finish once.

    Returns
    -------
    dict
        For each case how often what was found; ``most``, files of killed writers that
        were seen at once beside the target; and what was there after the last run.
    """
    rng = random.Random(seed)  # noqa: S311  # moments, not secrets
    told: dict[str, Counter[str]] = {}
    every = [case for case in cases(folder) if only in case.name]
    for k in range(times):
        case = every[k % len(every)]
        counts = told.setdefault(case.name, Counter())
        case.reset()
        was_killed = case.in_child(kill_after=rng.uniform(0, case.seconds))
        found = case.found()
        counts[found if was_killed else f"finished, {found}"] += 1
        counts["most"] = max(counts["most"], case.parts())
    for case in every:
        case.reset()
        case.in_child()
        told[case.name]["parts after the last run"] = case.parts()
        told[case.name][f"after the last run, {case.found()}"] += 1
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the writer's name")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = kill_all(Path(folder), words.times, words.seed, words.only)
        for name, counts in told.items():
            line = json.dumps({"writer": name} | dict(sorted(counts.items())))
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
