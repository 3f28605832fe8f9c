"""Servers and sources for the tests of the floors that read bytes."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from flac_xarray.range_server import RangeServer
from flac_xarray.sources import FetchLimits
from tests.servers import FaultServer, nginx

# gcsfs reads it when it is imported: without, it asks Google what kind of bucket an
# emulator has, for a minute.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

NBYTES = 300_000


@pytest.fixture(scope="session")
def payload() -> bytes:
    """Bytes without structure, so that a wrong offset cannot go unnoticed."""
    return random.Random(7).randbytes(NBYTES)  # noqa: S311 - a seeded file


@pytest.fixture
def served(tmp_path, payload):
    """A directory with ``a.flac`` (`payload`) and ``empty.flac``."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.flac").write_bytes(payload)
    (folder / "empty.flac").write_bytes(b"")
    return folder


@pytest.fixture
def range_server(served):
    with RangeServer(served) as server:
        yield server


@pytest.fixture
def fault_server(served):
    with FaultServer(served) as server:
        yield server


@pytest.fixture
def quick():
    """Limits for servers on this machine: what fails, fails soon."""
    return FetchLimits(timeout=5.0, backoff=0.01)


@pytest.fixture(scope="module")
def nginx_server(tmp_path_factory, payload):
    missing = [tool for tool in ("nginx", "openssl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on PATH: {', '.join(missing)}")
    root, run = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("run")
    (root / "a.flac").write_bytes(payload)
    (root / "compressible.flac").write_bytes(bytes(range(250)) * 400)
    with nginx(root, run, "me", "hunter2secret") as server:
        yield server
