"""From measured numbers to tables, a summary and a plot.

``python -m benchmarks.report out.json... [--plot out.png]`` reports again what
``benchmarks.codec`` wrote, several files as one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.analysis import (
    LARGE,
    Row,
    best_peer,
    mean,
    numbers,
    relative,
    size,
    speed,
)
from benchmarks.peers import OURS, PEERS

WORST = 10
"""How many losses the summary lists."""


def machine() -> str:
    """Describe the processor and the system."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1] for line in lines if line.startswith("model name")]
        model = models[0].strip() if models else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    """List the versions of all libraries under test that are installed."""
    names = ["numpy", *{name for peer in PEERS.values() for name in peer.requires}]
    names += ["pyflac", "numcodecs"]
    found = {"python": platform.python_version()}
    for name in sorted(set(names)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "rasterio" in found:
        import rasterio

        found["GDAL"] = rasterio.__gdal_version__
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table, first column to the left, others to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    rule = [
        "-" * (width + 2) if k == 0 else "-" * (width + 1) + ":"
        for k, width in enumerate(widths)
    ]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(lines)


def raster_table(raster: Row, threads: Sequence[int]) -> str:
    """Lay out all codecs on one raster, smallest first, refusals last."""
    names = sorted(raster["codecs"], key=lambda name: size(raster, name) or 1e30)
    ways = [(way, n) for n in threads for way in ("encode", "decode")]
    rows = []
    for name in names:
        nbytes = size(raster, name)
        if nbytes is None:
            problem = raster["codecs"][name]["problem"]
            rows.append([name, problem, *[""] * (1 + len(ways))])
            continue
        speeds = [speed(raster, name, way, n) for way, n in ways]
        numbers = ["" if value is None else f"{value:.0f}" for value in speeds]
        rows.append([name, f"{nbytes:,}", f"{raster['raw'] / nbytes:.3f}", *numbers])
    columns = [f"{way} MB/s ({n} thr.)" for way, n in ways]
    title = "{name}: {shape} {dtype}, {raw:,} bytes".format(
        **{**raster, "shape": " x ".join(map(str, raster["shape"]))}
    )
    return f"### {title}\n\n" + table(["codec", "bytes", "ratio", *columns], rows)


def codec_table(record: Row) -> str:
    """Compare every codec with ours, or with the first one where ours is absent."""
    rasters = record["rasters"]
    names = list(dict.fromkeys(n for r in rasters for n in r["codecs"]))
    base = OURS.name if OURS.name in names else names[0]
    large = [raster for raster in rasters if raster["raw"] >= LARGE] or rasters
    ways = [(way, n) for n in record["threads"] for way in ("encode", "decode")]
    rows = []
    for name in names:
        ratios = [mean(relative(rasters, name, base, size))]
        ratios += [
            mean(relative(large, name, base, partial(speed, way=way, threads=n)))
            for way, n in ways
        ]
        held = sum(size(raster, name) is not None for raster in rasters)
        smallest = sum(
            best_peer(raster, names) == name for raster in rasters if size(raster, name)
        )
        cells = ["" if value is None else f"{value:.3f}" for value in ratios]
        rows.append([name, str(held), str(smallest), *cells])
    columns = [f"{way} speed ({n} thr.)" for way, n in ways]
    title = f"Relative to {base}, geometric means over the rasters both hold:\n\n"
    return title + table(["codec", "holds", "smallest", "size", *columns], rows)


def summary(record: Row) -> str:
    """Write the summary in Markdown."""
    found = numbers(record)
    lines = [
        (
            f"- {found['rasters']} rasters, {found['large']} of them above 256 KB raw, "
            f"{found['imagery']} integer imagery"
        ),
        (
            f"- best general peer / ours: {_f(found['best_peer_over_ours'])}"
            f" (above 256 KB: {_f(found['best_peer_over_ours_large'])};"
            f" peers with predictors only: {_f(found['best_predicted_over_ours'])})"
        ),
        f"- COG ZSTD 22 / ours: {_f(found['zstd22_over_ours'])}",
        "- ours at least as small as the best of them: {} of {}"
        " (above 256 KB: {} of {})".format(*found["wins"], *found["wins_large"]),
        (
            f"- ours / JPEG 2000 on imagery: {_f(found['ours_over_jpeg2000'])}, "
            f"worst {_f(found['ours_over_jpeg2000_worst'])}"
        ),
    ]
    lines += [
        f"- imagery, {row['threads']} thr.: decoding {_f(row['decode_over_cog_zstd'])}"
        f" of rasterio on COG ZSTD, encoding {_f(row['encode_over_cog_deflate'])} of"
        " rasterio to COG DEFLATE; decoding"
        f" {_f(row['decode_over_first_count'])} of {record['threads'][0]} thr."
        for row in found["speeds"]
    ]
    lines += [
        f"- loss: {name}, {ratio:.3f} of {peer}"
        for name, peer, ratio in found["losses"][:WORST]
    ]
    libraries = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    end = f"Machine: {record['machine']}. Tile {record['tile']}. Versions: {libraries}."
    return "\n\n".join(["## Summary", "\n".join(lines), codec_table(record), end])


def _f(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def plot(record: Row, path: Path) -> None:
    """Draw size against decode speed, both relative to ours; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    rasters = [raster for raster in record["rasters"] if raster["raw"] >= LARGE]
    rasters = rasters or record["rasters"]
    names = list(dict.fromkeys(n for r in rasters for n in r["codecs"]))
    base = OURS.name if OURS.name in names else names[0]
    threads = record["threads"][0]
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    for name in names:
        ratio = mean(relative(rasters, base, name, size))
        fast = mean(
            relative(rasters, name, base, partial(speed, way="decode", threads=threads))
        )
        if ratio is None or fast is None:
            continue
        held = sum(size(raster, name) is not None for raster in rasters)
        label = name if held == len(rasters) else f"{name} ({held} of {len(rasters)})"
        own = name.startswith(OURS.name)
        axes.plot(fast, ratio, "D" if own else "o", color="C3" if own else "C0")
        axes.annotate(
            label, (fast, ratio), (5, 4), textcoords="offset points", fontsize=8
        )
    axes.margins(x=0.15)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel(f"decode speed, {base} = 1, {threads} thread(s)  (right is faster)")
    axes.set_ylabel(f"compression, {base} = 1  (up is smaller)")
    axes.set_title(f"{len(rasters)} rasters, geometric means; {record['machine']}")
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def merged(records: Sequence[Row]) -> Row:
    """Make one record of several; for rasters already there, later ones add sizes.

    Speeds of codecs added so are left out, as those of two runs cannot be compared.
    """
    rasters: dict[str, Row] = {}
    for raster in (raster for record in records for raster in record["rasters"]):
        known = rasters.setdefault(raster["name"], {**raster, "codecs": {}})
        if known["raw"] != raster["raw"]:
            msg = f"{raster['name']}: two rasters of that name, of different size"
            raise ValueError(msg)
        again = bool(known["codecs"])
        for name, outcome in raster["codecs"].items():
            sizes = {**outcome, "encode_s": {}, "decode_s": {}} if again else outcome
            known["codecs"].setdefault(name, sizes)
    return {**records[0], "rasters": list(rasters.values())}


def main(argv: Sequence[str] | None = None) -> None:
    """Report what was measured before."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("files", nargs="+", type=Path, metavar="JSON")
    parser.add_argument("--plot", type=Path, help="write the plot to this file")
    parser.add_argument(
        "--imagery", help="patterns of file names, as in benchmarks.codec"
    )
    options = parser.parse_args(argv)
    record = merged([json.loads(path.read_text()) for path in options.files])
    if options.imagery is not None:
        record["imagery"] = options.imagery.split(",")
    print(summary(record))
    if options.plot:
        plot(record, options.plot)


if __name__ == "__main__":
    main()
