"""Reading through a faulty server for a while leaves nothing behind."""

from __future__ import annotations

import os

from tests.soak import soak

SECONDS = float(os.environ.get("FLAC_XARRAY_SOAK_SECONDS", "10"))


def test_every_answer_is_right_or_an_error_and_nothing_is_left():
    done = soak(SECONDS)
    assert done.wrong == []
    assert done.answers["right"] > 20
    # The faults came through: some reads failed in spite of the retry.
    assert done.answers["CorruptTileError"] > 0
    assert sum(done.answers.values()) > done.answers["right"]
    assert done.growth() < 32 << 20, done.rss
    assert done.fds[1] <= done.fds[0], done.fds
    assert done.threads[1] <= done.threads[0], done.threads
