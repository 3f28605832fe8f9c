"""What the measured numbers say: pairwise comparisons of codecs over rasters.

Strategy: every comparison of two codecs is a geometric mean over the rasters that both
hold, so that a codec gains nothing by refusing what it is bad at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from statistics import geometric_mean
from typing import Any

from benchmarks.peers import OURS

GENERAL = (
    "COG DEFLATE",
    "COG DEFLATE no predictor",
    "COG ZSTD 22",
    "COG ZSTD 22 no predictor",
    "COG LERC_ZSTD",
    "Zarr zstd",
    "Zarr blosc",
    "pcodec 8",
)
"""The fast, general peers whose smallest is "the best peer" of a raster."""

LARGE = 256 * 1024
"""Raw bytes below which headers and fixed costs, not codecs, are measured."""

Row = dict[str, Any]


def speed(raster: Row, name: str, way: str, threads: int) -> float | None:
    """Look up a throughput in MB of pixels a second; `way` is encode or decode."""
    seconds = raster["codecs"].get(name, {}).get(f"{way}_s", {}).get(str(threads))
    return None if seconds is None else raster["raw"] / seconds / 1e6


def size(raster: Row, name: str) -> float | None:
    """Look up the stored bytes."""
    return raster["codecs"].get(name, {}).get("nbytes")


def pairs(
    rasters: Iterable[Row],
    first: Callable[[Row], float | None],
    second: Callable[[Row], float | None],
) -> Iterator[float]:
    """Divide first by second where both are known."""
    for raster in rasters:
        over, under = first(raster), second(raster)
        if over and under:
            yield over / under


def mean(ratios: Iterable[float]) -> float | None:
    """Take the geometric mean, or None of nothing."""
    values = list(ratios)
    return geometric_mean(values) if values else None


def best_peer(raster: Row, names: Sequence[str] = GENERAL) -> str | None:
    """Name the general peer that is smallest on a raster."""
    held = [name for name in names if size(raster, name)]
    return min(held, key=lambda name: size(raster, name) or 0) if held else None


def best_size(raster: Row, names: Sequence[str] = GENERAL) -> float | None:
    """Look up the bytes of the smallest general peer."""
    best = best_peer(raster, names)
    return None if best is None else size(raster, best)


def is_imagery(raster: Row, patterns: Sequence[str] = ()) -> bool:
    """Tell continuous-tone integers: by name, or because JPEG 2000 beats ZSTD there.

    The second rule favours JPEG 2000: rasters it is bad at do not enter the comparison.
    """
    image, zstd = size(raster, "JPEG 2000"), size(raster, "COG ZSTD")
    if raster["raw"] < LARGE:
        return False
    if patterns:
        return any(fnmatch(raster["name"], pattern) for pattern in patterns)
    return bool(image and zstd and image < zstd)


def ours_size(raster: Row) -> float | None:
    """Look up our bytes."""
    return size(raster, OURS.name)


def numbers(record: Row) -> Row:
    """Work out what the summary says, for programs."""
    rasters, patterns = record["rasters"], record.get("imagery", ())
    large = [raster for raster in rasters if raster["raw"] >= LARGE]
    imagery = [raster for raster in large if is_imagery(raster, patterns)]
    predicted = [name for name in GENERAL if "no predictor" not in name]
    losses = [
        (raster["name"], best_peer(raster), ratio)
        for raster in large
        for ratio in pairs([raster], ours_size, best_size)
        if ratio > 1
    ]
    wins = [ratio >= 1 for ratio in pairs(rasters, best_size, ours_size)]
    large_wins = [ratio >= 1 for ratio in pairs(large, best_size, ours_size)]
    images = list(pairs(imagery, ours_size, lambda r: size(r, "JPEG 2000")))
    return {
        "rasters": len(rasters),
        "large": len(large),
        "imagery": len(imagery),
        "best_peer_over_ours": mean(pairs(rasters, best_size, ours_size)),
        "best_peer_over_ours_large": mean(pairs(large, best_size, ours_size)),
        "best_predicted_over_ours": mean(
            pairs(rasters, lambda r: best_size(r, predicted), ours_size)
        ),
        "zstd22_over_ours": mean(
            pairs(rasters, lambda r: size(r, "COG ZSTD 22"), ours_size)
        ),
        "wins": [sum(wins), len(wins)],
        "wins_large": [sum(large_wins), len(large_wins)],
        "losses": sorted(losses, key=lambda loss: -loss[2]),
        "ours_over_jpeg2000": mean(images),
        "ours_over_jpeg2000_worst": max(images, default=None),
        "speeds": [
            speed_ratios(imagery, n, record["threads"][0]) for n in record["threads"]
        ],
    }


def speed_ratios(imagery: Sequence[Row], n: int, first: int) -> Row:
    """Compare speeds on integer imagery, `n` threads, also with `first` threads."""

    def ratio(way: str, peer: str) -> float | None:
        return mean(
            pairs(
                imagery,
                lambda r: speed(r, OURS.name, way, n),
                lambda r: speed(r, peer, way, n),
            )
        )

    return {
        "threads": n,
        "decode_over_cog_zstd": ratio("decode", "COG ZSTD"),
        "encode_over_cog_deflate": ratio("encode", "COG DEFLATE"),
        "decode_over_first_count": mean(
            pairs(
                imagery,
                lambda r: speed(r, OURS.name, "decode", n),
                lambda r: speed(r, OURS.name, "decode", first),
            )
        ),
    }


def relative(
    rasters: Iterable[Row],
    name: str,
    base: str,
    value: Callable[[Row, str], float | None],
) -> Iterator[float]:
    """Divide a codec's value by that of another, raster by raster."""
    return pairs(rasters, lambda r: value(r, name), lambda r: value(r, base))
