"""What may come of damaged bytes: the right pixels, or an error of ours.

Strategy: `check` reads an input the way a user would, and says in a word what came of
it. Whatever must not be is raised: another exception, pixels that differ where a
checksum should have told, pixels that nobody wrote, memory without measure.
"""

from __future__ import annotations

import io
import math
import tracemalloc
import warnings
from typing import Any

import numpy as np
import xarray as xr

from flac_xarray.dtypes import itemsize, numpy_dtype
from flac_xarray.errors import FlacRasterError, LossyFileWarning
from flac_xarray.reader import FlacRaster
from flac_xarray.tile_codec import decode_tile
from flac_xarray.validate import validate_raster
from tests.fuzz.mutate import Fuzz, seed_named
from tests.fuzz.seeds import FileSeed, OldSeed, TileSeed

MAX_READ = 1 << 20
"""Pixels, in bytes, that are read of what a damaged header promises."""
MAX_MESSAGE = 3000
"""Characters of an error's message."""


class Finding(Exception):  # noqa: N818 - a finding, not an error of the code
    """Something came of an input that must not."""


_seeds: dict[str, Any] = {}


def _seed(name: str) -> Any:
    if name not in _seeds:
        _seeds[name] = seed_named(name)
    return _seeds[name]


def check(fuzz: Fuzz) -> str:
    """Read one input.

    Returns
    -------
    str
        ``same``: the seed's pixels; ``other``: other pixels, behind right checksums;
        or the name of the error.

    Raises
    ------
    Finding
        It must not be.
    """
    seed = _seed(fuzz.seed)
    try:
        if isinstance(seed, TileSeed):
            return _check_tile(fuzz, seed)
        if isinstance(seed, FileSeed):
            return _check_file(fuzz, seed)
        return _check_old(fuzz, seed)
    except FlacRasterError as error:
        text = str(error)
        if len(text) > MAX_MESSAGE:
            msg = f"a message of {len(text)} characters: {text[:200]}"
            raise Finding(msg) from error
        return type(error).__name__


def check_memory(fuzz: Fuzz, limit: int) -> int:
    """Read one input, and give the bytes that Python and NumPy had at most."""
    tracemalloc.start(1)
    try:
        check(fuzz)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > limit:
        msg = f"{peak} bytes of memory for {len(fuzz.data)} bytes of input"
        raise Finding(msg)
    return peak


def _check_tile(fuzz: Fuzz, seed: TileSeed) -> str:
    shape = seed.pixels.shape
    # Twice, over different leavings: a pixel that nobody writes would differ.
    one, two = (np.empty(shape, numpy_dtype(seed.dtype)) for _ in range(2))
    one.reshape(-1).view(np.uint8)[:] = 0x55
    two.reshape(-1).view(np.uint8)[:] = 0xAA
    is_md5 = fuzz.region in ("frames", "mended frames")
    decode_tile(fuzz.data, shape=shape, dtype=seed.dtype, out=one, verify_md5=is_md5)
    decode_tile(fuzz.data, shape=shape, dtype=seed.dtype, out=two)
    _compare(one, two)
    if one.tobytes() == seed.pixels.tobytes():
        return "same"
    if is_md5:
        raise Finding("other pixels than the MD5 is of")
    return "other"


def _compare(one: Any, two: Any) -> None:
    if (one.shape, one.dtype) != (two.shape, two.dtype):
        msg = f"{one.dtype} {one.shape}, then {two.dtype} {two.shape}"
        raise Finding(msg)
    if one.tobytes() != two.tobytes():
        raise Finding("two reads of the same bytes differ")


def _check_file(fuzz: Fuzz, seed: FileSeed) -> str:
    if hash(fuzz.data) % 4 == 0:
        # Validation tells, and never raises for what is in the bytes.
        ok = validate_raster(fuzz.data, full=_is_small(fuzz.data), threads=1).ok
    else:
        ok = None
    if hash(fuzz.data) % 16 == 1:
        _open_dataset(fuzz.data)
    with FlacRaster.open(fuzz.data, threads=1, cache_nbytes=0) as raster:
        repr(raster)
        found = [_read(raster, k) for k in range(len(raster.header.arrays))]
        georef = raster.georef
    is_same = (
        len(found) == len(seed.pixels)
        and georef == seed.georef
        and all(
            a is not None and a.shape == b.shape and a.tobytes() == b.tobytes()
            for a, b in zip(found, seed.pixels, strict=True)
        )
    )
    if is_same:
        return "same"
    if fuzz.kind == "raw":
        raise Finding("damage was not found: other pixels or georeference")
    if ok is False:
        return "other, told by validate"
    return "other"


def _open_dataset(data: bytes) -> None:
    """Open and load with xarray."""
    with (
        warnings.catch_warnings(),
        xr.open_dataset(
            io.BytesIO(data), engine="flacraster", chunks=None, cache=False
        ) as dataset,
    ):
        warnings.simplefilter("ignore")  # what CF attributes say is xarray's business
        repr(dataset)
        for name in dataset.variables:
            if dataset.variables[name].nbytes <= MAX_READ and _is_small(data):
                np.asarray(dataset.variables[name])


def _is_small(data: bytes) -> bool:
    try:
        with FlacRaster.open(data, threads=1, cache_nbytes=0) as raster:
            arrays = raster.header.arrays
            return all(a.tile_nbytes <= MAX_READ for a in arrays)
    except FlacRasterError:
        return True


def _read(raster: FlacRaster, position: int) -> Any:
    """Read an array twice, or a pixel of it where it promises much."""
    info = raster.header.arrays[position]
    size = itemsize(info.dtype)
    if math.prod(info.shape) * size <= MAX_READ:
        whole = tuple(slice(0, n) for n in info.shape)
        one = raster.read_selection(whole, position=position)
        _compare(one, raster.read_selection(whole, position=position))
        return one
    if info.tile_nbytes <= MAX_READ and 0 not in info.shape:
        last = tuple(slice(n - 1, n) for n in info.shape)
        raster.read_selection(last, position=position)
    return None


def _check_old(fuzz: Fuzz, seed: OldSeed) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyFileWarning)
        with FlacRaster.open(fuzz.data, threads=1, cache_nbytes=0) as raster:
            found = _read(raster, 0)
    # There is no checksum of the whole, so nobody can tell.
    is_same = found is not None and found.tobytes() == seed.pixels.tobytes()
    return "same" if is_same else "other"
