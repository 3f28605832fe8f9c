"""Malformed files are refused for their own fault, at once and with little memory."""

from __future__ import annotations

import io
import re
import time
import tracemalloc

import pytest
import xarray as xr

from flac_xarray.errors import FormatError, SourceChangedError, TruncatedError
from flac_xarray.reader import FlacRaster
from flac_xarray.validate import validate_raster
from tests.fuzz.seeds import file_seeds
from tests.malformed import CORPUS, ENGINE_ONLY

SECONDS = 5
OURS = (FormatError, SourceChangedError)


def read_all(data: bytes) -> list:
    with FlacRaster.open(data, threads=1, cache_nbytes=0) as raster:
        return [
            raster.read_selection([slice(0, n) for n in a.shape], position=k)
            for k, a in enumerate(raster.header.arrays)
        ]


def test_the_files_that_they_are_made_of_are_good():
    assert len(CORPUS) > 100
    for seed in file_seeds():
        read_all(seed.data)
        assert validate_raster(seed.data, full=True).ok


@pytest.mark.parametrize("name", CORPUS)
def test_the_reader_refuses(name):
    case = CORPUS[name]
    start = time.monotonic()
    tracemalloc.start()
    with pytest.raises(OURS) as error:
        read_all(case.data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search(case.word, str(error.value)), str(error.value)
    assert len(str(error.value)) < 1000
    assert time.monotonic() - start < SECONDS
    # What the file itself takes a few times over, and nothing of what it promises.
    allowed = 24 << 20 if "too-much-together" in name else 1 << 20
    assert peak < allowed + 12 * len(case.data)


@pytest.mark.parametrize("name", CORPUS)
def test_validation_says_so(name):
    case = CORPUS[name]
    if name == "garbage-behind":  # which may be a file that is being replaced
        with pytest.raises(SourceChangedError, match=case.word):
            validate_raster(case.data)
        return
    report = validate_raster(case.data, full=True, threads=1)
    assert not report.ok
    assert re.search(case.word, "\n".join(report.errors)), report.errors


@pytest.mark.parametrize("name", CORPUS | ENGINE_ONLY)
def test_xarray_is_told(name):
    case = (CORPUS | ENGINE_ONLY)[name]
    with (
        pytest.raises(OURS) as error,
        xr.open_dataset(
            io.BytesIO(case.data), engine="flacraster", chunks=None
        ) as dataset,
    ):
        dataset.load()
    assert re.search(case.word, str(error.value)), str(error.value)


def test_terabytes_are_refused_by_arithmetic():
    data = CORPUS["table-of-terabytes"].data
    tracemalloc.start()
    with pytest.raises(FormatError, match="do not fit"):
        FlacRaster.open(data)
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


def test_an_empty_file_is_truncated():
    with pytest.raises((TruncatedError, FormatError)):
        FlacRaster.open(b"")
