"""Every bit of small files flipped, every cut: ``python -m tests.damage``.

Strategy: a file is damaged in one place after another and read as a user reads it. What
is allowed: an error of ours, or the same pixels and the same georeference.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from flac_xarray.errors import FlacRasterError
from flac_xarray.reader import FlacRaster
from tests.fuzz.seeds import FileSeed, file_seeds


def read(data: bytes) -> tuple[object, ...]:
    """Everything that a file says of pixels and where they are."""
    with FlacRaster.open(data, threads=1, cache_nbytes=0) as raster:
        arrays = raster.header.arrays
        return (
            raster.georef,
            {name: coord.to_json() for name, coord in raster.header.coords.items()},
            [
                (a.name, a.dtype, a.dims, a.level, a.role, repr(a.nodata))
                for a in arrays
            ],
            [
                raster.read_selection(
                    [slice(0, n) for n in a.shape], position=k
                ).tobytes()
                for k, a in enumerate(arrays)
            ],
        )


def flips(data: bytes, bits: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    """Flip each of these bits of a file, one at a time."""
    damaged = bytearray(data)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(damaged)
        damaged[bit // 8] ^= 1 << bit % 8


def cuts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut a file off at each byte."""
    for stop in range(len(data)):
        yield f"cut at {stop}", data[:stop]


def check(
    seed: FileSeed, damages: Iterable[tuple[str, bytes]]
) -> tuple[int, list[str], list[str]]:
    """Read damaged files.

    Returns
    -------
    int, list of str, list of str
        How many were refused, which were harmless, and which gave something else.
    """
    right = read(seed.data)
    refused, harmless, wrong = 0, [], []
    for name, data in damages:
        try:
            found = read(data)
        except FlacRasterError:
            refused += 1
            continue
        (harmless if found == right else wrong).append(name)
    return refused, harmless, wrong


def main() -> int:
    total = 0
    print("| file | bytes | flips | found | harmless | cuts | refused | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    since = time.monotonic()
    for seed in file_seeds():
        n = len(seed.data)
        found, harmless, wrong = check(seed, flips(seed.data, range(8 * n)))
        refused, whole, more = check(seed, cuts(seed.data))
        total += len(wrong) + len(whole) + len(more)
        print(
            f"| {seed.name} | {n} | {8 * n} | {found} | {len(harmless)} | {n} | "
            f"{refused} | {len(wrong) + len(whole) + len(more)} |",
            flush=True,
        )
    print(f"{time.monotonic() - since:.0f} s")
    return min(total, 1)


if __name__ == "__main__":
    sys.exit(main())
