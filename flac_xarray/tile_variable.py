"""Variables that become dask arrays, tile by tile, when xarray chunks them.

Strategy: xarray wraps the arrays of a backend for caching when no ``chunks`` are asked
for, so returning dask arrays would not give dask; and with ``chunks`` it makes dask
arrays of its own, whose tasks know nothing of each other. Variables are therefore
returned as a `TileVariable`, which sees either and makes a `tile_array` instead, whose
tiles are fetched ahead, in a plain variable. Were xarray to stop calling its methods,
arrays would be xarray's own: right values, other chunks, no fetching ahead.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import xarray as xr
from xarray.core import indexing

from flac_xarray.errors import ManyTilesWarning
from flac_xarray.tile_view import TileView

if TYPE_CHECKING:
    from flac_xarray.dask_tiles import Chunks

__all__ = ["TileVariable", "with_tile_variables"]

MANY_TILES: Final = 100_000
"""Chunks above which a plain open warns."""
_DATA: Final[Any] = xr.Variable.data


def with_tile_variables(ds: xr.Dataset) -> xr.Dataset:
    """Give the dataset with every variable that lies in tiles as a `TileVariable`."""
    lazy = {
        name: TileVariable(
            variable.dims,
            variable._data,  # noqa: SLF001  (`.data` would read the pixels)
            variable.attrs,
            variable.encoding,
            fastpath=True,
        )
        for name, variable in ds.variables.items()
        if name in ds.data_vars and "preferred_chunks" in variable.encoding
    }
    return ds.assign(lazy)


class TileVariable(xr.Variable):
    """A lazy variable whose chunks are read through a plan."""

    __slots__ = ()

    @property
    def data(self) -> Any:
        """Pixels, as xarray has it."""
        return _DATA.fget(self)

    @data.setter
    def data(self, data: Any) -> None:
        """Take xarray's wrapping; that for caching is what asks for dask."""
        if isinstance(data, getattr(indexing, "MemoryCachedArray", ())):
            data = _one_chunk_per_tile(self, data)
        if not isinstance(data, indexing.CopyOnWriteArray):
            self.__class__ = xr.Variable  # type: ignore[assignment]
        _DATA.fset(self, data)

    def chunk(  # type: ignore[override]
        self,
        chunks: Any = {},  # noqa: B006  (xarray's)
        **options: Any,
    ) -> xr.Variable:
        """Make a dask array, see `xarray.Variable.chunk`."""
        given = {k: v for k, v in options.items() if v is not None}
        more = dict(given.pop("from_array_kwargs", {}))
        manager = type(given.pop("chunked_array_type", None)).__name__
        name = given.pop("name", None) or more.pop("name", None)
        view = _view(self._data)
        plain = not any(v for k, v in (given | more).items() if k != "inline_array")
        if (
            view is None
            or not plain
            or not isinstance(chunks, Mapping)
            or manager not in ("NoneType", "DaskManager")
        ):
            return xr.Variable(*_parts(self)).chunk(chunks, **options)
        sizes = tuple(chunks.get(dim, -1) for dim in self.dims)
        data = _planned(view, sizes, f"{name or 'tiles'}-{_token(view, sizes)}")
        dims, _, attrs, encoding = _parts(self)
        return xr.Variable(dims, data, attrs, encoding, fastpath=True)


def _parts(variable: xr.Variable) -> tuple[Any, ...]:
    lazy = variable._data  # noqa: SLF001  (`.data` would read the pixels)
    return variable.dims, lazy, variable.attrs, variable.encoding


def _view(data: Any) -> TileView | None:
    """Give the tiles below xarray's own wrappers, if they can be planned."""
    # The layer is made of dask's task objects, which older releases lack.
    if importlib.util.find_spec("dask._task_spec") is None:
        return None
    wrappers = (
        indexing.CopyOnWriteArray,
        getattr(indexing, "MemoryCachedArray", ()),
    )
    while isinstance(data, wrappers):
        data = data.array
        if isinstance(data, indexing.ImplicitToExplicitIndexingAdapter):
            data = data.array
    return TileView.of(data)


def _one_chunk_per_tile(variable: xr.Variable, data: Any) -> Any:
    tiles = variable.encoding["preferred_chunks"]
    _warn_of_many(variable, tiles)
    view = _view(data)
    if view is not None:
        sizes = tuple(tiles.get(dim, -1) for dim in variable.dims)
        name = variable.encoding.get("source", "tiles").rpartition("/")[2]
        return _planned(view, sizes, f"{name}-{_token(view, sizes, variable.attrs)}")
    # Decoded by xarray in another way: tasks read tiles one by one.
    dims, lazy, attrs, encoding = _parts(variable)
    chunks = {dim: tiles.get(dim, -1) for dim in dims}
    return xr.Variable(dims, lazy, attrs, encoding).chunk(chunks)._data  # noqa: SLF001


def _warn_of_many(variable: xr.Variable, tiles: Mapping[Any, int]) -> None:
    """Point to larger chunks where there would be more tasks than dask likes."""
    counts = [-(-n // tiles.get(dim, max(n, 1))) for dim, n in variable.sizes.items()]
    n = math.prod(counts)
    if n > MANY_TILES:
        warnings.warn(
            f"{n} tiles, one dask chunk each: open with chunks='auto', which joins "
            "whole tiles, to keep dask quick",
            ManyTilesWarning,
            stacklevel=2,
        )


def _planned(view: TileView, sizes: tuple[Any, ...], name: str) -> Any:
    from dask.array.core import normalize_chunks

    from flac_xarray.dask_tiles import tile_array

    chunks: Chunks = normalize_chunks(  # type: ignore[no-untyped-call]
        sizes, view.shape, dtype=view.dtype
    )
    return tile_array(view, chunks, name)


def _token(view: TileView, *more: Any) -> str:
    """Give what tells chunks of other pixels apart: file, state, array, decoding."""
    from dask.base import tokenize

    array = view.array
    what = (array.ref.token, array.position, array.masked, view.held, view.dtype)
    token: str = tokenize(*what, view.decoders, *more)
    return token
