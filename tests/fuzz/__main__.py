"""Fuzz the reader: ``python -m tests.fuzz --inputs 1000000``.

Strategy: batches of inputs run in processes (`worker`). One that dies has its input
saved, is counted as a crash or a hang, and the batch goes on behind that input.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.check import check
from tests.fuzz.worker import HANG_SECONDS, Slot, Tally, load, save

BATCH = 20_000
HANGS = (-signal.SIGPROF, -signal.SIGALRM, -signal.SIGKILL)
"""How a worker ends that hangs."""
MAX_DEATHS = 50
"""Of one run: beyond, something is wrong with all inputs."""


def run(
    inputs: int,
    run_seed: int,
    folder: Path,
    *,
    limited: bool = True,
    tell: Any = None,
) -> Tally:
    """Run so many inputs; what is found lies in the tally and in `folder`."""
    tally, at, deaths = Tally(), 0, 0
    while at < inputs:
        stop = min(at + BATCH, inputs)
        at = _run_batch(run_seed, at, stop, folder, tally, limited=limited)
        deaths += at < stop
        if deaths > MAX_DEATHS:
            break
        if tell is not None:
            tell(at, tally)
    return tally


def _run_batch(
    run_seed: int, start: int, stop: int, folder: Path, tally: Tally, *, limited: bool
) -> int:
    """Run a batch, and give where to go on: `stop`, or behind what ended it."""
    mode = "limited" if limited else "unlimited"
    command = [sys.executable, "-m", "tests.fuzz.worker"]
    command += [str(run_seed), str(start), str(stop), str(folder), mode]
    # Memory that malloc hands out holds what is no zero, so nobody relies on it.
    env = {"PYTHONHASHSEED": "0", "MALLOC_PERTURB_": "90", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | env
    )
    try:
        # Beside the alarm of each input: a hang of the worker itself.
        out, err = process.communicate(timeout=300 + (stop - start) * 0.1)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    if process.returncode == 0:
        tally.add(json.loads(out))
        return stop
    slot = folder / f"slot-{process.pid}"
    if not slot.exists():
        msg = f"a worker did not start: {err.decode(errors='replace')[-3000:]}"
        raise RuntimeError(msg)
    number, fuzz = Slot.get(slot)
    slot.unlink()
    is_hang = process.returncode in HANGS
    what = f"a hang of more than {HANG_SECONDS:g} s" if is_hang else "a crash"
    what += f" ({process.returncode})"
    finding = {
        "count": 1,
        "number": number,
        "input": str(save(fuzz, number, folder)),
        "text": err.decode(errors="replace")[-6000:],
    }
    known = tally.findings.setdefault(what, finding)
    if known is not finding:
        known["count"] += 1
    # What the batch did before is told by nobody: do it again up to there.
    if number > start:
        _run_batch(run_seed, start, number, folder, tally, limited=limited)
    tally.inputs += 1
    tally.outcomes[f"{fuzz.region}: FINDING"] += 1
    return number + 1


def report(tally: Tally, seconds: float) -> str:
    """Give the run as a table in Markdown."""
    regions: dict[str, dict[str, int]] = {}
    for key, count in tally.outcomes.items():
        region, _, outcome = key.partition(": ")
        if outcome.endswith("Error"):
            outcome = "our error"
        elif outcome.startswith("other"):
            outcome = "other"
        row = regions.setdefault(region, {})
        row[outcome] = row.get(outcome, 0) + count
    columns = ("our error", "same", "other", "FINDING")
    lines = [
        (
            f"{tally.inputs} inputs in {seconds:.0f} s, the slowest took "
            f"{tally.slowest * 1000:.0f} ms, at most {tally.most_memory / 1024:.0f} "
            "KiB of Python's memory for one"
        ),
        "",
        "| region | inputs | our error | same pixels | other pixels | findings |",
        "|---|---|---|---|---|---|",
    ]
    for region, row in sorted(regions.items()):
        counts = " | ".join(str(row.get(column, 0)) for column in columns)
        lines.append(f"| {region} | {sum(row.values())} | {counts} |")
    for key, finding in tally.findings.items():
        lines += ["", f"{finding['count']} x {key}: {finding['input']}"]
        lines += [finding["text"]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="of the run")
    parser.add_argument("--folder", type=Path, help="for what is found")
    parser.add_argument("--replay", type=Path, help="check one saved input")
    parser.add_argument(
        "--no-memory-limit", action="store_true", help="for sanitizers, which need much"
    )
    given = parser.parse_args()
    if given.replay:
        print(check(load(given.replay)))
        return 0
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    since = time.monotonic()

    def tell(at: int, tally: Tally) -> None:
        seconds = time.monotonic() - since
        print(
            f"{at} inputs, {seconds:.0f} s, {len(tally.findings)} findings",
            file=sys.stderr,
            flush=True,
        )

    tally = run(
        given.inputs, given.seed, folder, limited=not given.no_memory_limit, tell=tell
    )
    print(report(tally, time.monotonic() - since))
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
