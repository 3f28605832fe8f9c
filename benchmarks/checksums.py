"""What the checksum of each tile costs: ``python -m benchmarks.checksums FILE...``.

Every file's first band is repeated up to a square, written as a FLAC raster and decoded
tile by tile from memory in one thread: as the reader does it (the row's CRC-32 is
compared, FLAC's own CRCs are not), without any checksum, and with FLAC's CRCs instead.
The three take turns in one process; the best of each counts.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.reading import grown
from flac_xarray import FlacRaster, encode_array
from flac_xarray.tile_codec import decode_tile

if TYPE_CHECKING:
    from collections.abc import Callable


def decoders(data: bytes, position: int = 0) -> dict[str, Callable[[], None]]:
    """Give functions that decode all tiles of a file, checked in different ways."""
    with FlacRaster.open(data) as raster:
        info = raster.header.arrays[position]
        grid, table = info.grid, raster.index.table(position, 0)
        indices = [tuple(map(int, i)) for i in np.ndindex(*grid.counts)]
        tiles = [
            (grid.number(i), raster.read_tile_bytes(i), grid.tile_shape(i))
            for i in indices
        ]
    outs = {shape: np.empty(shape, info.dtype) for _, _, shape in tiles}

    def decode(*, row: bool, frames: bool) -> None:
        for number, tile, shape in tiles:
            if row:
                table.check_tile(tile, position, number)
            if tile:
                decode_tile(
                    tile,
                    shape=shape,
                    dtype=info.dtype,
                    out=outs[shape],
                    is_checked=not frames,
                )

    return {
        "row's CRC-32": lambda: decode(row=True, frames=False),
        "none": lambda: decode(row=False, frames=False),
        "FLAC's CRCs": lambda: decode(row=False, frames=True),
    }


def measure(data: bytes, turns: int) -> dict[str, float]:
    """Best time of each way over the best without checksums."""
    ways = decoders(data)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(turns):
        for name, decode in ways.items():
            start = time.perf_counter()
            decode()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: seconds / best["none"] for name, seconds in best.items()}


def main() -> None:
    """Print what share of the decoding time the checksums are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--turns", type=int, default=41)
    args = parser.parse_args()
    print("| raster | dtype | raw / file | row's CRC-32 | FLAC's CRCs instead |")
    print("|---|---|---|---|---|")
    for path in args.files:
        band = grown(path, args.size)
        data = encode_array(band[np.newaxis], tile_size=args.tile)
        found = measure(data, args.turns)
        costs = [
            f"{100 * (found[n] - 1):.1f} %" for n in ("row's CRC-32", "FLAC's CRCs")
        ]
        name, ratio = Path(path).name, band.nbytes / len(data)
        print(f"| {name} | {band.dtype} | {ratio:.2f} | {costs[0]} | {costs[1]} |")


if __name__ == "__main__":
    main()
