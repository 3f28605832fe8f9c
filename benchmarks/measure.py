"""Measuring one codec on one raster: verify first, then time in turns.

Strategy: a result is an `Outcome`, whether it is a size, a refusal or a fault, so that
a table always has a row for every codec. Repeats go round all codecs, so that a noisy
machine hits all of them, and the best of them counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.base import Encoded, Peer, Pixels, Raster, missing_modules

BUDGET = 20.0
"""Seconds after which one codec's encoding of one raster is not repeated."""


@dataclass(slots=True)
class Outcome:
    """What came of one codec on one raster."""

    nbytes: int | None = None
    """Stored bytes; None where there is a `problem`."""
    problem: str | None = None
    """Why there is no size, for the table."""
    encode_s: dict[int, float] = field(default_factory=dict)
    """Best time to encode, in seconds, by number of threads."""
    decode_s: dict[int, float] = field(default_factory=dict)
    """Best time to decode, in seconds, by number of threads."""

    def as_row(self) -> dict[str, Any]:
        """Give what the JSON file holds: keys are strings there."""
        return {
            "nbytes": self.nbytes,
            "problem": self.problem,
            "encode_s": {str(n): s for n, s in self.encode_s.items()},
            "decode_s": {str(n): s for n, s in self.decode_s.items()},
        }


def identical(first: Pixels, second: Pixels) -> bool:
    """Compare two arrays bit by bit: NaN payloads and the sign of zero count."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    unsigned = f"u{min(first.itemsize, 8)}"
    left, right = (np.ascontiguousarray(a).view(unsigned) for a in (first, second))
    return bool(np.array_equal(left, right))


def refusal(peer: Peer, raster: Raster) -> str | None:
    """Say why a codec cannot be tried."""
    missing = missing_modules(peer)
    if missing:
        return "needs " + ", ".join(missing)
    return None if peer.holds(raster) else f"no {raster.dtype}"


class Trial:
    """One codec on one raster: `encode` and `decode` note their best times."""

    def __init__(self, peer: Peer, raster: Raster, tile: int) -> None:
        self.peer = peer
        self.raster = raster
        self.tile = tile
        self.outcome = Outcome(problem=refusal(peer, raster))
        self._encoded: Encoded | None = None
        self._spent = 0.0

    def repeat(self, threads: int) -> None:
        """Encode and decode once more, unless the codec is out."""
        if self.outcome.problem is not None:
            return
        try:
            self._encode(threads)
            self._decode(threads)
        except Exception as error:  # noqa: BLE001 (any fault of a peer is its row's text)
            self._fail(f"{type(error).__name__}: {error}")

    def _encode(self, threads: int) -> None:
        times = self.outcome.encode_s
        if threads in times and self._spent > BUDGET:
            return
        start = time.perf_counter()
        self._encoded = self.peer.encode(self.raster, self.tile, threads)
        elapsed = time.perf_counter() - start
        self._spent += elapsed
        times[threads] = min(elapsed, times.get(threads, elapsed))
        self.outcome.nbytes = self._encoded.nbytes

    def _decode(self, threads: int) -> None:
        if self._encoded is None:
            return
        times = self.outcome.decode_s
        start = time.perf_counter()
        pixels = self.peer.decode(self._encoded, self.raster, threads)
        elapsed = time.perf_counter() - start
        times[threads] = min(elapsed, times.get(threads, elapsed))
        if not identical(pixels, self.raster.array):
            self._fail("NOT LOSSLESS")

    def _fail(self, problem: str) -> None:
        self.outcome = Outcome(problem=problem)
        self._encoded = None


def measure(
    raster: Raster,
    peers: Iterable[Peer],
    *,
    tile: int = 512,
    threads: Sequence[int] = (1,),
    repeats: int = 3,
) -> dict[str, Outcome]:
    """Measure all codecs on one raster, in turns.

    Returns
    -------
    dict
        An outcome for every codec's name.
    """
    trials = [Trial(peer, raster, tile) for peer in peers]
    for _ in range(repeats):
        for count in threads:
            for trial in trials:
                trial.repeat(count)
    return {trial.peer.name: trial.outcome for trial in trials}
