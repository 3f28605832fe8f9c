"""The notebooks: run from top to bottom in a kernel of their own, as readers run them.

The proofs are in the notebooks themselves, which assert that pixels are equal; here it
is seen that they run, draw, complain of nothing, and keep no output in the repository.
"""

from __future__ import annotations

import os

import nbformat
import pytest
from nbclient import NotebookClient

from tests.documents import ROOT

NOTEBOOKS = [
    pytest.param(path, id=path.stem) for path in sorted(ROOT.glob("notebooks/*.ipynb"))
]
CELL_TIMEOUT = 120
# Of jupyter_client and zmq, which are not under test.
pytestmark = pytest.mark.filterwarnings("default")


def execute(path):
    """Run a notebook where it lies and give it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(path.parent)}},
    )
    return client.execute()


def outputs(notebook):
    """All outputs of all cells."""
    return [out for cell in notebook.cells for out in cell.get("outputs", ())]


def check(notebook):
    """What every notebook must show."""
    complaints = [
        out.text
        for out in outputs(notebook)
        if out.output_type == "stream" and out.name == "stderr"
    ]
    assert complaints == []
    drawn = [out for out in outputs(notebook) if "image/png" in out.get("data", {})]
    assert len(drawn) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_runs_on_seeded_scenes(path, tmp_path, monkeypatch):
    before = sorted(path.parent.iterdir())
    monkeypatch.delenv("FLAC_XARRAY_TEST_DATA", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    check(execute(path))
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.real
@pytest.mark.skipif(
    "FLAC_XARRAY_TEST_DATA" not in os.environ,
    reason="as long again: set FLAC_XARRAY_TEST_DATA to run notebooks on real rasters",
)
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_runs_on_real_rasters(path, tmp_path, monkeypatch, real_data):
    monkeypatch.setenv("FLAC_XARRAY_TEST_DATA", str(real_data))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    check(execute(path))


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_is_kept_without_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert outputs(notebook) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None for cell in code)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown"
