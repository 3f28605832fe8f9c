"""Overviews of a Dataset that is written: further dask arrays, computed block by block.

Strategy: a level is a lazy array over the chunks of the level before, so whoever stores
the variables of a plan stores its levels with them: what both are computed from is
computed once, where dask runs it, and no array is gathered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flac_xarray.dataset_plan import DatasetPlan
from flac_xarray.dtypes import numpy_dtype
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.overview_plan import (
    LevelSource,
    OverviewPlan,
    Overviews,
    Resampling,
    overview_factors,
)
from flac_xarray.pyramid import make_part

__all__ = ["with_overviews"]

FOR_COORDINATES: Final = "average"
"""How coordinates over rows and columns are made: centres stay centres."""

Place = tuple[tuple[slice, ...], tuple[slice, ...]]
"""What to take of a chunk, and where it goes."""


def with_overviews(
    plan: DatasetPlan, overviews: Overviews, resampling: Resampling
) -> DatasetPlan:
    """Add overview levels to a plan.

    Parameters
    ----------
    plan
        Variables of full resolution.
    overviews
        ``"auto"``, ``"none"``, None, or factors.
    resampling
        A method, or one by variable; coordinates of floats are averaged.

    Raises
    ------
    ValueError, UnsupportedDataError
        See `OverviewPlan.of`.
    """
    if not overview_factors(plan.header, overviews):
        return plan
    levels = OverviewPlan.of(
        plan.header, overviews, _by_variable(plan.header, resampling)
    )
    arrays = [_lazy(v, i) for v, i in zip(plan.arrays, plan.header.arrays, strict=True)]
    for position, source in levels.sources.items():
        info = levels.header.arrays[position]
        arrays.append(_level(arrays[source.position], info, source))
    dims = [variable.dims for variable in plan.arrays]
    made = tuple(
        xr.Variable(dims[k % len(dims)], array)
        for k, array in enumerate(arrays)
        if k >= len(dims)
    )
    return DatasetPlan(levels.header, (*plan.arrays, *made))


def _by_variable(header: Header, resampling: Resampling) -> Resampling:
    coordinates = set(header.extra.get("coordinates", ()))
    out = {a.name: resampling for a in header.arrays if isinstance(resampling, str)}
    for info in header.arrays:
        if info.name in coordinates and "float" in info.dtype:
            out[info.name] = FOR_COORDINATES
    return {**out, **({} if isinstance(resampling, str) else resampling)}


def _lazy(variable: xr.Variable, info: ArrayInfo) -> Any:
    if variable.chunks is not None:
        return variable.data
    import dask.array as da

    tiles = [min(n, t) or 1 for n, t in zip(info.shape, info.tile, strict=True)]
    values = np.asarray(variable.values)
    return da.from_array(values, chunks=tuple(tiles))  # type: ignore[no-untyped-call]


def _level(before: Any, info: ArrayInfo, source: LevelSource) -> Any:
    """Give one level as a dask array, from the dask array of the level before."""
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    chunks = tuple(
        have if axis < len(info.shape) - 2 else _halved(have, n, tile)
        for axis, (have, n, tile) in enumerate(
            zip(before.chunks, info.shape, info.tile, strict=True)
        )
    )
    plain = replace(info, attrs={}, bands=(), extra={})
    name = f"overview-{info.name}-{tokenize(before.name, plain, source, chunks)}"
    tasks: dict[Any, Any] = {}
    for index, at in _blocks(chunks):
        selection = (*at[:-2], *source.rule.needs((at[-2], at[-1])))
        keys, places = _pieces(before.name, before.chunks, selection)
        job = partial(_make, plain, source, at, selection, places)
        tasks[(name, *index)] = (job, *keys)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[before])
    dtype = numpy_dtype(info.dtype)
    return da.Array(graph, name, chunks, dtype=dtype)  # type: ignore[no-untyped-call]


def _halved(have: Sequence[int], n: int, tile: int) -> tuple[int, ...]:
    """Give chunks of whole tiles, about half as many pixels long as the given ones.

    Examples
    --------
    >>> _halved((2048, 2048, 500), 2298, 512), _halved((64, 64), 64, 512)
    ((1024, 1024, 250), (64,))
    """
    step = max(round(max(have) / 2 / tile), 1) * tile
    return tuple(min(step, n - start) for start in range(0, n, step))


def _blocks(
    chunks: Sequence[Sequence[int]],
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Give the index of every block, and where it lies."""
    spans = []
    for along in chunks:
        stops = list(itertools.accumulate(along))
        ends = zip(along, stops, strict=True)
        spans.append([(k, slice(stop - n, stop)) for k, (n, stop) in enumerate(ends)])
    for block in itertools.product(*spans):
        yield tuple(k for k, _ in block), tuple(at for _, at in block)


def _pieces(
    name: str, chunks: Sequence[Sequence[int]], selection: Sequence[slice]
) -> tuple[list[Any], list[Place]]:
    """Give the chunks that a selection touches, and where their pixels go."""
    along = []
    for sizes, want in zip(chunks, selection, strict=True):
        found, start = [], 0
        for k, n in enumerate(sizes):
            low, high = max(start, want.start), min(start + n, want.stop)
            if low < high:
                within = slice(low - start, high - start)
                found.append((k, within, slice(low - want.start, high - want.start)))
            start += n
        along.append(found)
    keys, places = [], []
    for piece in itertools.product(*along):
        keys.append((name, *(k for k, _, _ in piece)))
        places.append((tuple(w for _, w, _ in piece), tuple(i for _, _, i in piece)))
    return keys, places


def _make(
    info: ArrayInfo,
    source: LevelSource,
    at: tuple[slice, ...],
    selection: tuple[slice, ...],
    places: Sequence[Place],
    *blocks: NDArray[Any],
) -> NDArray[Any]:
    """Make one block of a level of the blocks that it needs."""
    pixels = np.empty([s.stop - s.start for s in selection], numpy_dtype(info.dtype))
    for (within, into), block in zip(places, blocks, strict=True):
        # xarray's lazy encoders may give a wider dtype than they declared.
        pixels[into] = block[within]
    corner = selection[-2].start, selection[-1].start
    return make_part(info, source, at, pixels, corner)
