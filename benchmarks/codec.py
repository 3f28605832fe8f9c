"""Size and speed of lossless raster codecs on anyone's own rasters.

``python -m benchmarks.codec FILE... [--json out.json] [--plot out.png]``

FILE is anything rasterio reads. Every codec that is installed and can hold the pixels
encodes and decodes all bands in memory with the same tile size; only results that come
back bit-identical count. See README.md beside this file for what is fair about it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from benchmarks.base import Peer, Raster
from benchmarks.measure import measure
from benchmarks.peers import OURS, PEERS
from benchmarks.report import machine, plot, raster_table, summary, versions


def read_raster(path: str) -> Raster:
    """Read all bands, CRS, transform and nodata of a raster.

    Raises
    ------
    ValueError
        Its bands have more than one dtype.
    """
    with rasterio.open(path) as dataset:
        if len(set(dataset.dtypes)) > 1:
            msg = f"{path}: one dtype for all bands expected, found {dataset.dtypes}"
            raise ValueError(msg)
        profile: dict[str, Any] = {}
        if dataset.crs:
            profile["crs"] = dataset.crs
        if not dataset.transform.is_identity:
            profile["transform"] = dataset.transform
        colours = {ColorInterp.red, ColorInterp.green, ColorInterp.blue}
        is_photo = dataset.dtypes[0] == "uint8" and set(dataset.colorinterp) >= colours
        return Raster(
            Path(path).name,
            dataset.read(),
            dataset.dtypes[0],
            dataset.nodata,
            profile,
            is_photo=is_photo,
        )


def named(text: str) -> set[str]:
    """Expand parts of codec names, separated by commas, to the names.

    Raises
    ------
    ValueError
        A part fits no codec.
    """
    found: set[str] = set()
    for part in text.casefold().split(","):
        fitting = {name for name in PEERS if part.strip() in name.casefold()}
        if not fitting:
            msg = f"no codec {part.strip()!r}; there are {', '.join(PEERS)}"
            raise ValueError(msg)
        found |= fitting
    return found


def chosen_peers(
    only: str | None = None, skip: str | None = None, efforts: str | None = None
) -> list[Peer]:
    """Pick codecs by parts of their names; ours once more for every effort given."""
    names = set(PEERS) if only is None else named(only)
    names -= set() if skip is None else named(skip)
    peers = [peer for name, peer in PEERS.items() if name in names]
    if efforts is not None:
        peers[1:1] = [
            replace(OURS, name=f"{OURS.name} {effort}", effort=int(effort))
            for effort in efforts.split(",")
        ]
    return peers


def thread_counts(text: str) -> list[int]:
    """Parse ``1,N``: N stands for the number of cores."""
    cores = os.cpu_count() or 1
    counts = [cores if part.strip() == "N" else int(part) for part in text.split(",")]
    return sorted(set(counts))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.codec", description=__doc__.splitlines()[0]
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="rasters to encode")
    parser.add_argument("--tile", type=int, default=512, help="tile size, pixels")
    parser.add_argument("--threads", default="1,N", help="thread counts; N: all cores")
    parser.add_argument("--peers", help="parts of codec names, separated by commas")
    parser.add_argument("--skip", help="codecs to leave out, named likewise")
    parser.add_argument("--effort", help="efforts of ours beside the default: 0,9")
    parser.add_argument("--imagery", help="patterns of file names: s2-*,l8-*")
    parser.add_argument("--repeat", type=int, default=3, help="best of how many")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--plot", type=Path, help="write the plot to this file")
    options = parser.parse_args(argv)
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        # Better now than when all has been measured.
        parser.error("--plot needs matplotlib: pip install matplotlib")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report; the JSON file is complete after every raster."""
    options = parse(argv)
    threads = thread_counts(options.threads)
    peers = chosen_peers(options.peers, options.skip, options.effort)
    record: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "tile": options.tile,
        "threads": threads,
        "repeats": options.repeat,
        "imagery": options.imagery.split(",") if options.imagery else [],
        "rasters": [],
    }
    for path in options.files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            raster = read_raster(path)
            outcomes = measure(
                raster,
                peers,
                tile=options.tile,
                threads=threads,
                repeats=options.repeat,
            )
        row = {
            "name": raster.name,
            "shape": list(raster.array.shape),
            "dtype": raster.dtype,
            "raw": raster.nbytes,
            "codecs": {name: outcome.as_row() for name, outcome in outcomes.items()},
        }
        record["rasters"].append(row)
        print(raster_table(row, threads), end="\n\n", flush=True)
        if options.json:
            options.json.write_text(json.dumps(record, indent=1))
    print(summary(record))
    if options.plot:
        plot(record, options.plot)


if __name__ == "__main__":
    main()
