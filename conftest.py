"""Fixtures shared by tests, doctests and notebooks."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real rasters; skips where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip("no real rasters: set FLAC_XARRAY_TEST_DATA to their folder")
    return REAL_DATA
