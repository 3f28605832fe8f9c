"""Fixtures shared by tests, doctests and notebooks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough",
    max_examples=2000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

REAL_DATA = Path(
    os.environ.get(
        "FLAC_XARRAY_TEST_DATA", Path(__file__).resolve().parent.parent / "shared/data"
    )
)


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal() -> None:
    """Undo what `nohup` and ``&`` hand down: processes of the tests meet signals."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN:
        # Caught here, so that nohup still holds; what is caught is not inherited.
        signal.signal(hangup, lambda *_: None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real rasters; skips where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip("no real rasters: set FLAC_XARRAY_TEST_DATA to their folder")
    return REAL_DATA
