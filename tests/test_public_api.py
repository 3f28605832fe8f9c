"""The names that users may rely on, and what importing them costs."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import typing

import flac_xarray

PUBLIC = [
    "ArrayInfo",
    "CorruptTileError",
    "FlacRaster",
    "FlacRasterError",
    "FlacRasterWriter",
    "FormatError",
    "Header",
    "SourceError",
    "UnsupportedDataError",
    "Window",
    "WindowError",
    "__version__",
    "convert_to_flac",
    "convert_to_geotiff",
    "encode_array",
    "fetch_headers",
    "merge",
    "register_gdal",
    "write",
    "write_array",
    "write_template",
]


def test_public_names_are_pinned():
    assert flac_xarray.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(flac_xarray, name) is not None


def test_type_checkers_see_the_public_names_and_no_others(monkeypatch):
    for name in PUBLIC:
        getattr(flac_xarray, name)
    monkeypatch.setattr(typing, "TYPE_CHECKING", True)
    seen = runpy.run_path(flac_xarray.__file__)
    assert set(PUBLIC) <= set(seen)
    assert "__getattr__" not in seen


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_importing_the_package_is_light():
    heavy = {"rasterio", "click", "rich", "pyflac", "miniaudio", "aiohttp", "rioxarray"}
    assert not heavy & loaded_after("import flac_xarray")


def test_listing_xarray_s_engines_is_light():
    heavy = {"rasterio", "click", "rich", "pyflac", "miniaudio", "aiohttp"}
    added = loaded_after("import flac_xarray.xarray_backend") - loaded_after(
        "import xarray, dask"
    )
    assert not heavy & added


def test_every_error_is_a_builtin_one_too_and_pickles():
    import pickle

    from flac_xarray import errors

    builtin = (ValueError, TypeError, IndexError, KeyError, OSError, RuntimeError)
    for name in errors.__all__:
        cls = getattr(errors, name)
        if issubclass(cls, Warning):
            continue
        assert issubclass(cls, errors.FlacRasterError)
        assert cls is errors.FlacRasterError or issubclass(cls, builtin)
        error = cls("what, where", offset=7)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.offset) == (cls, "what, where", 7)
