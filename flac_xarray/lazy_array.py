"""One array of a file as xarray's lazy array: pickled in bytes, opened once a process.

Strategy: a `RasterRef` says which file, in which state; the rasters themselves live in
a small cache of the process, so that a task that arrives on a worker costs no header
read but the first. Nothing is locked while pixels are read. A raster leaves the cache
when it is closed or crowded out; reads under way keep it open until they end.
"""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import sys
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from flac_xarray.forking import fork_safe_lock, run_after_fork

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

    from flac_xarray.masking import Masking
    from flac_xarray.reader import FetchTiles, FlacRaster
    from flac_xarray.selection import Selection
    from flac_xarray.sources import Source

__all__ = ["RasterArray", "RasterRef"]

MAX_OPEN: Final = 128
"""Rasters that a process keeps open."""

_open_rasters: OrderedDict[str, FlacRaster | Future[FlacRaster]] = OrderedDict()
"""Open ones, and those that a thread is opening."""
_guard = fork_safe_lock()


class RasterRef:
    """Which file, in which state; opens it when pixels are wanted.

    Parameters
    ----------
    token
        Names the file and its state, in every process.
    payload
        The source, pickled: unpickling opens files, so it waits until it is needed.
    source
        The source itself, where it is memory or somebody's open file.

    Examples
    --------
    >>> from flac_xarray.array_writer import encode_array
    >>> ref = RasterRef.open(encode_array(np.ones((2, 3), "uint8")))
    >>> ref.raster() is ref.raster()
    True
    """

    __slots__ = ("_payload", "_source", "token")

    def __init__(
        self, token: str, payload: bytes | None = None, source: Source | None = None
    ) -> None:
        self.token = token
        self._payload = payload
        self._source = source

    @classmethod
    def open(
        cls,
        target: str | os.PathLike[str] | bytes | BinaryIO,
        storage_options: Mapping[str, Any] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Self:
        """Open a file, in one request for most, and keep it for the reads to come.

        `meanwhile` is called while that request is under way.

        Raises
        ------
        SourceError, FormatError
            See `FlacRaster.open`.
        """
        from flac_xarray.header_cache import open_file
        from flac_xarray.reader import FlacRaster
        from flac_xarray.sources import FileObjectSource, MemorySource, open_source
        from flac_xarray.tile_index import DEFAULT_PREFETCH

        opened = open_source(target, storage_options)
        try:
            file = open_file(opened, DEFAULT_PREFETCH, meanwhile)
        except BaseException:
            opened.close()
            raise
        # xarray and dask keep what they want to keep: no second cache below them.
        raster = FlacRaster(file, cache_nbytes=0)
        source = raster.source
        if isinstance(source, MemorySource):
            everything = source.read_prefix(sys.maxsize).data
            ref = cls(_digest(everything), source=source)
        elif isinstance(source, FileObjectSource):
            ref = cls(uuid.uuid4().hex, source=source)
        else:
            payload = pickle.dumps(source)
            # Without an ETag or a time nothing tells two states of a file apart.
            state = raster.token or uuid.uuid4().hex
            ref = cls(_digest(payload + state.encode()), payload)
        with _guard:
            _open_rasters.pop(ref.token, None)
            _open_rasters[ref.token] = raster
            _crowd_out()
        return ref

    def __reduce__(self) -> tuple[Any, ...]:
        payload = self._payload or pickle.dumps(self._source)
        return (type(self), (self.token, payload))

    def raster(self) -> FlacRaster:
        """Give the open raster; the first caller of the process opens it.

        Raises
        ------
        SourceChangedError
            The file is no longer the one that was opened.
        """
        job: Future[FlacRaster] | None = None
        try:
            with _guard:
                found = _open_rasters.get(self.token)
                if found is None:
                    # Known here before it is there: an interrupt leaves none behind.
                    job = _open_rasters[self.token] = Future()
                    _crowd_out()
                _open_rasters.move_to_end(self.token)
            if found is not None:
                return found.result() if isinstance(found, Future) else found
            raster = self._reopen()
        except BaseException as error:
            if job is not None:
                self.close()
                job.set_exception(error)
            raise
        assert job is not None  # noqa: S101
        with _guard:
            if _open_rasters.get(self.token) is job:  # else it was closed meanwhile
                _open_rasters[self.token] = raster
        job.set_result(raster)
        return raster

    def _reopen(self) -> FlacRaster:
        from flac_xarray.reader import FlacRaster

        source = self._source
        if source is None and self._payload is not None:
            # Ours, made by `__reduce__` or `open`: never bytes of a file.
            source = pickle.loads(self._payload)  # noqa: S301
        assert source is not None  # noqa: S101
        return FlacRaster.open(source, cache_nbytes=0)

    def close(self) -> None:
        """Forget the open raster; a later read opens it again.

        The file itself is closed when the last read under way has ended.
        """
        with _guard:
            _open_rasters.pop(self.token, None)


@run_after_fork
def _forget_openings() -> None:
    """Leave to a forked child what is open: nobody there is opening anything."""
    for token, found in list(_open_rasters.items()):
        if isinstance(found, Future):
            del _open_rasters[token]


def _crowd_out() -> None:
    while len(_open_rasters) > MAX_OPEN:
        _open_rasters.popitem(last=False)


def _digest(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class RasterArray(BackendArray):
    """One array of a file: reads the tiles that an index needs, nothing else.

    Parameters
    ----------
    ref
        The file.
    position
        Which of its arrays.
    shape, dtype
        As the reads give them.
    masked
        Whether pixels are masked and scaled, see `Masking`.
    """

    def __init__(
        self,
        ref: RasterRef,
        position: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        masked: bool = False,
    ) -> None:
        self.ref = ref
        self.position = position
        self.shape = shape
        self.dtype = dtype
        self.masked = masked

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} {self.dtype}>"

    def read_block(
        self, block: tuple[slice, ...], fetch: FetchTiles | None = None
    ) -> NDArray[Any]:
        """Read a block; `fetch` gives the bytes of tiles, see `FlacRaster`."""
        if not self.masked:
            raster = self.ref.raster()
            return raster.read_selection(block, position=self.position, fetch=fetch)
        from flac_xarray.selection import Selection

        return self._read(Selection.basic(block, self.shape), fetch)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        """Read what xarray's indexer selects: basic, outer or vectorised."""
        from flac_xarray.selection import Selection

        vectorized = isinstance(key, indexing.VectorizedIndexer)
        make = Selection.vectorized if vectorized else Selection.basic
        return self._read(make(key.tuple, self.shape))

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        """Read in a thread, so that variables loaded together arrive together."""
        return await asyncio.to_thread(self.__getitem__, key)

    def _read(
        self, selection: Selection, fetch: FetchTiles | None = None
    ) -> NDArray[Any]:
        raster = self.ref.raster()
        pixels = _read(raster, self.position, selection, fetch)
        if self.masked:
            pixels = _masking(raster, self.position).apply(
                pixels, selection, lambda k, part: _read(raster, k, part, fetch)
            )
        return selection.finish(pixels)


def _masking(raster: FlacRaster, position: int) -> Masking:
    from flac_xarray.masking import Masking

    return Masking.of(raster.header, position)


def _read(
    raster: FlacRaster,
    position: int,
    selection: Selection,
    fetch: FetchTiles | None = None,
) -> NDArray[Any]:
    """Read a selection in flat shape, each tile once."""
    block = selection.block()
    if block is not None:
        return raster.read_selection(block, position=position, fetch=fetch)
    from flac_xarray.dtypes import numpy_dtype

    info = raster.header.arrays[position]
    out = np.empty(selection.flat_shape, numpy_dtype(info.dtype))
    pieces = list(selection.pieces(info.grid))

    def place(k: int, tile: NDArray[Any]) -> None:
        ordered = tile.transpose(selection.order)
        out[pieces[k].put] = ordered[pieces[k].take]

    raster.visit_tiles([p.index for p in pieces], place, position=position)
    return out
