"""One batch of inputs in a process of its own, which may crash, hang or run out.

Strategy: each input is in a file mapped into memory before it is read, so whoever finds
the process dead finds what it died of. Timers end a hang, also one in C; a limit on
the address space turns memory without measure into a finding.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.check import Finding, check, check_memory
from tests.fuzz.mutate import Fuzz, make_input

HANG_SECONDS = 5.0
"""Of this process's own time, so that a busy machine is no hang."""
WAIT_SECONDS = 60.0
"""On the clock: who waits for what never comes takes no time of its own."""
EXTRA_MEMORY = 64 << 20
"""Address space beyond what the process has before the first input."""
TRACED = 32
"""Each of so many inputs is read again under tracemalloc."""
MAX_TRACED = 1 << 20
"""Bytes of Python and NumPy for one input: 200 times what a seed's pixels take."""
MAP_NBYTES = 1 << 20
HEAD = struct.Struct("<QQII")
"""Run seed, number of the input, its bytes, bytes of the names."""


@dataclass(slots=True)
class Tally:
    """What came of a batch."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """By region and outcome."""
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By place: count, first input's number, text."""
    slowest: float = 0.0
    """Seconds of the slowest input."""
    most_memory: int = 0
    """Most bytes of those that were measured."""

    def as_dict(self) -> dict[str, Any]:
        """Give the tally for JSON."""
        return {
            "inputs": self.inputs,
            "outcomes": dict(self.outcomes),
            "findings": self.findings,
            "slowest": self.slowest,
            "most_memory": self.most_memory,
        }

    def add(self, other: dict[str, Any]) -> None:
        """Add the tally of another batch, as `as_dict` gives it."""
        self.inputs += other["inputs"]
        self.outcomes.update(other["outcomes"])
        self.slowest = max(self.slowest, other["slowest"])
        self.most_memory = max(self.most_memory, other["most_memory"])
        for key, finding in other["findings"].items():
            known = self.findings.setdefault(key, finding)
            if known is not finding:
                known["count"] += finding["count"]


class Slot:
    """Where the input at hand lies for whoever comes after a crash."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("w+b") as file:
            file.truncate(MAP_NBYTES)
            self.map = mmap.mmap(file.fileno(), MAP_NBYTES)

    def put(self, run_seed: int, number: int, fuzz: Fuzz) -> None:
        names = f"{fuzz.kind}\0{fuzz.region}\0{fuzz.seed}".encode()
        data = fuzz.data[: MAP_NBYTES - HEAD.size - len(names)]
        head = HEAD.pack(run_seed, number, len(data), len(names))
        self.map[: HEAD.size + len(names)] = head + names
        at = HEAD.size + len(names)
        self.map[at : at + len(data)] = data

    @staticmethod
    def get(path: Path) -> tuple[int, Fuzz]:
        """Read the number and the input that lie there."""
        raw = path.read_bytes()
        _, number, nbytes, names_nbytes = HEAD.unpack_from(raw)
        at = HEAD.size + names_nbytes
        kind, region, seed = raw[HEAD.size : at].decode().split("\0")
        return number, Fuzz(kind, region, seed, raw[at : at + nbytes])


def limit_memory() -> None:
    """Allow so much address space beyond what is there now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + EXTRA_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def run_batch(
    run_seed: int, start: int, stop: int, folder: Path, *, limited: bool = True
) -> dict[str, Any]:
    """Check inputs `start` to `stop`; findings are saved in `folder`."""
    tally = Tally()
    slot = Slot(folder / f"slot-{os.getpid()}")
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    # What is loaded or cached at the first use is no input's memory.
    for number in range(300):
        fuzz = make_input(run_seed + 1, number)
        slot.put(run_seed, start, fuzz)
        if limited:
            _settle(fuzz)
    if limited:
        limit_memory()
    for number in range(start, stop):
        fuzz = make_input(run_seed, number)
        slot.put(run_seed, number, fuzz)
        run_one(number, fuzz, tally, folder)
    slot.path.unlink()
    return tally.as_dict()


def _watch(seconds: float, wall_seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)


def _settle(fuzz: Fuzz) -> None:
    _watch(HANG_SECONDS, WAIT_SECONDS)
    with contextlib.suppress(Exception):  # it is found again when it counts
        check(fuzz)
    _watch(0, 0)


def run_one(number: int, fuzz: Fuzz, tally: Tally, folder: Path) -> None:
    _watch(HANG_SECONDS, WAIT_SECONDS)
    since = time.perf_counter()
    try:
        outcome = check(fuzz)
        tally.slowest = max(tally.slowest, time.perf_counter() - since)
        if random.Random(number).randrange(TRACED) == 0:
            used = check_memory(fuzz, MAX_TRACED)
            tally.most_memory = max(tally.most_memory, used)
    except (Exception, MemoryError) as error:
        outcome = "FINDING"
        note(tally, error, number, fuzz, folder)
    _watch(0, 0)
    tally.inputs += 1
    tally.outcomes[f"{fuzz.region}: {outcome}"] += 1


def note(
    tally: Tally, error: BaseException, number: int, fuzz: Fuzz, folder: Path
) -> None:
    """Count a finding under its place, and save the first input of each."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    key = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    if isinstance(error, Finding):
        key += f": {str(error)[:40]}"
    if key not in tally.findings:
        text = "".join(traceback.format_exception(error))
        tally.findings[key] = {
            "count": 0,
            "number": number,
            "input": str(save(fuzz, number, folder)),
            "text": text[-4000:],
        }
    tally.findings[key]["count"] += 1


def save(fuzz: Fuzz, number: int, folder: Path) -> Path:
    """Save an input so that `__main__` can replay it."""
    name = "-".join((fuzz.kind, fuzz.region, str(number))).replace(" ", "_")
    path = folder / f"{name}.input"
    names = f"{fuzz.kind}\0{fuzz.region}\0{fuzz.seed}".encode()
    path.write_bytes(len(names).to_bytes(4, "little") + names + fuzz.data)
    return path


def load(path: Path) -> Fuzz:
    """Undo `save`."""
    raw = path.read_bytes()
    stop = 4 + int.from_bytes(raw[:4], "little")
    kind, region, seed = raw[4:stop].decode().split("\0")
    return Fuzz(kind, region, seed, raw[stop:])


if __name__ == "__main__":
    import json

    given = [int(text) for text in sys.argv[1:4]]
    done = run_batch(*given, Path(sys.argv[4]), limited=sys.argv[5] == "limited")
    sys.stdout.write(json.dumps(done))
