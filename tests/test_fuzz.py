"""A bounded run of the fuzzer, and that the fuzzer finds what it is for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flac_xarray.tile_codec import decode_tile
from tests.fuzz import __main__ as fuzz
from tests.fuzz import worker
from tests.fuzz.check import check
from tests.fuzz.files import Parts, Stream, frame_starts, mend_frames, pack_file
from tests.fuzz.mutate import REGIONS, Fuzz, make_input
from tests.fuzz.seeds import file_seeds, old_seeds, tile_seeds

INPUTS = int(os.environ.get("FLAC_XARRAY_FUZZ_INPUTS", "3000"))


def test_nothing_is_found(tmp_path):
    tally = fuzz.run(INPUTS, run_seed=time.time_ns() % (1 << 20), folder=tmp_path)
    assert tally.findings == {}, fuzz.report(tally, 0)
    assert tally.inputs == INPUTS
    regions = {key.split(":")[0] for key in tally.outcomes}
    assert len(regions) == len(REGIONS) + 2  # frames and streams are told in two
    # Damage must get behind the first check, or the run says nothing.
    deep = sum(n for key, n in tally.outcomes.items() if ": other" in key)
    assert deep > INPUTS / 50


def test_seeds_come_apart_and_together():
    for seed in tile_seeds():
        assert Stream.unpack(seed.stream.pack()) == seed.stream
        starts, heads = frame_starts(seed.stream.frames)
        assert mend_frames(seed.stream.frames, starts, heads) == seed.stream.frames
        found = decode_tile(
            seed.stream.pack(),
            shape=seed.pixels.shape,
            dtype=seed.dtype,
            verify_md5=True,
        )
        assert found.tobytes() == seed.pixels.tobytes()
    for seed in file_seeds():
        assert pack_file(Parts.unpack(seed.data)) == seed.data
    assert len(frame_starts(tile_seeds()[-6].stream.frames)[0]) > 1
    assert len(old_seeds()) > 5


def test_the_same_numbers_give_the_same_input():
    assert make_input(7, 11) == make_input(7, 11)
    assert make_input(7, 11) != make_input(7, 12)


def test_an_input_is_saved_and_replayed(tmp_path):
    made = make_input(1, 5)
    assert worker.load(worker.save(made, 5, tmp_path)) == made
    slot = worker.Slot(tmp_path / "slot")
    slot.put(1, 5, made)
    assert worker.Slot.get(slot.path) == (5, made)


PLANTED = """
import sys
from pathlib import Path
from tests.fuzz import worker
seen = 0
def check(fuzz, real=worker.check):
    global seen
    seen += 1
    if seen == 305:
        {plant}
    return real(fuzz)
worker.check = check
worker.HANG_SECONDS = 3.0
worker.WAIT_SECONDS = 8.0
worker.run_batch(1, 0, 50, Path(sys.argv[4]))
"""
PLANTS = {
    "hang": ("while True: pass", -signal.SIGPROF),
    "wait": ("__import__('time').sleep(99)", -signal.SIGALRM),
    "crash": ("__import__('ctypes').string_at(1)", -signal.SIGSEGV),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_hang_and_a_crash_leave_their_input(tmp_path, name):
    plant, status = PLANTS[name]
    done = subprocess.run(
        [sys.executable, "-c", PLANTED.format(plant=plant), "", "", "", tmp_path],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    (slot,) = tmp_path.glob("slot-*")
    number, found = worker.Slot.get(slot)
    assert (number, found) == (4, make_input(1, 4))


@pytest.mark.parametrize("kind", ["exception", "memory"])
def test_what_must_not_be_is_noted(tmp_path, monkeypatch, kind):
    def bad(_):
        if kind == "memory":
            return bytes(worker.MAX_TRACED + 1)[:0]
        raise KeyError("not ours")

    if kind == "memory":
        monkeypatch.setattr("tests.fuzz.check.check", bad)
        monkeypatch.setattr(worker, "TRACED", 1)
    else:
        monkeypatch.setattr(worker, "check", bad)
    tally = worker.Tally()
    worker.run_one(3, make_input(1, 3), tally, tmp_path)
    (finding,) = tally.findings.values()
    assert finding["number"] == 3
    assert worker.load(tmp_path / finding["input"]) == make_input(1, 3)


def test_an_undamaged_input_is_the_same():
    for seed in file_seeds():
        assert check(Fuzz("raw", "raw", seed.name, seed.data)) == "same"
    cut = file_seeds()[0].data[:-1]
    assert check(Fuzz("raw", "raw", file_seeds()[0].name, cut)).endswith("Error")
