"""Reading a FLAC raster: which tiles, which bytes, then pixels (docs/format.md, 7).

Strategy: plan, then do. A selection becomes tile cuts (`grid`) and table rows
(`tile_index`); their bytes come from the source in as few requests as pay, in the
order they arrive, and are decoded by the caller's number of threads straight into the
result. There is no lock around reading, and a raster pickles as its source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from flac_xarray import header_cache
from flac_xarray.dtypes import empty_pixel, numpy_dtype
from flac_xarray.errors import (
    CorruptTileError,
    FormatError,
    SourceChangedError,
    SourceError,
    WindowError,
)
from flac_xarray.flac_stream import seal_stream
from flac_xarray.georef import Bbox, Georef
from flac_xarray.grid import TileCut, Window
from flac_xarray.header import ArrayInfo
from flac_xarray.header_cache import OpenFile, open_file
from flac_xarray.ranges import ByteRange
from flac_xarray.read_plan import ReadPlan, ReadStats, run_on_arrival
from flac_xarray.sources import Source, open_source
from flac_xarray.tile_cache import TileCache
from flac_xarray.tile_index import DEFAULT_PREFETCH

if TYPE_CHECKING:
    from flac_xarray.viewer import View

__all__ = ["FetchTiles", "FlacRaster"]

DEFAULT_CACHE_NBYTES: Final = 64 << 20
"""Decoded tiles that an open raster keeps by default."""


FetchTiles = Callable[
    ["FlacRaster", int, Sequence[int]], Iterator[tuple[int, "bytes | memoryview"]]
]
"""Fetches tiles of an array by number, see `FlacRaster.fetch_tiles`."""


class FlacRaster:
    """An open FLAC raster: header, tile tables, and reading.

    Use `open`; the constructor does no I/O.

    Attributes
    ----------
    header : Header
        Arrays, georeference, coordinates, attributes and tags.
    source : Source
        Where the bytes come from.
    token : str or None
        Changes when the file changes (ETag, or size and time); None where none is told.

    Examples
    --------
    >>> import numpy as np
    >>> from flac_xarray.array_writer import encode_array
    >>> pixels = np.arange(12, dtype="int16").reshape(1, 3, 4)
    >>> with FlacRaster.open(encode_array(pixels)) as raster:
    ...     raster.read(window=Window(1, 2, 1, 2))
    array([[[6, 7]]], dtype=int16)
    """

    def __init__(
        self,
        file: OpenFile,
        *,
        threads: int | None = None,
        cache_nbytes: int = DEFAULT_CACHE_NBYTES,
    ) -> None:
        self.source = file.source
        self.header = file.header
        self.index = file.index
        self.token = file.token
        self.cache = TileCache(cache_nbytes)
        self._key = file.key
        self.threads = threads or os.cpu_count() or 1

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | bytes | BinaryIO | Source,
        *,
        storage_options: Mapping[str, Any] | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        threads: int | None = None,
        cache_nbytes: int = DEFAULT_CACHE_NBYTES,
    ) -> Self:
        """Open a FLAC raster: one request for most files.

        Parameters
        ----------
        source
            Path, URL of any fsspec protocol, bytes, or an open binary file.
        storage_options
            Options of the fsspec file system: credentials, headers.
        prefetch
            Bytes of the first request.
        threads
            Threads that decode the tiles of one read; by default one a core.
        cache_nbytes
            Bytes of decoded tiles that are kept for the next read; 0 keeps none.

        Raises
        ------
        SourceError
            The bytes cannot be had.
        FormatError
            They are not a FLAC raster, or a damaged one.
        """
        opened = open_source(source, storage_options)
        try:
            file = open_file(opened, prefetch)
        except BaseException:
            opened.close()
            raise
        return cls(file, threads=threads, cache_nbytes=cache_nbytes)

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        state = (type(self), self.source, self.threads, self.cache.max_nbytes)
        return (_reopen, state)

    def __repr__(self) -> str:
        first = self.header.arrays[self.header.find()]
        return (
            f"<FlacRaster {self.name!r} {first.sizes} {first.dtype}, "
            f"{first.grid.n_tiles} tiles>"
        )

    def _repr_html_(self) -> str:
        from flac_xarray.html_repr import html_of

        tables, first = self.index.tables, self.header.find()
        table = None if tables is None else tables[first]
        return html_of(self.name, self.header, self.nbytes, table)

    def view(self, *, width: str = "100%", height: int = 480) -> View:
        """Show the raster in the web viewer, inside a notebook.

        A server on this machine's loopback interface relays the file to the browser,
        which must be on this machine too. It reads for as long as the raster is open.

        Parameters
        ----------
        width, height
            Of the frame, as CSS has it and in pixels.

        Returns
        -------
        View
            IPython shows it as an iframe; its `url` can be opened in any browser.
        """
        from flac_xarray.viewer import View, shared_server

        url = shared_server().show(self.source, self.name)
        return View(url, width, height)

    @property
    def name(self) -> str:
        """Path or URL, without credentials."""
        return self.source.name

    @property
    def nbytes(self) -> int | None:
        """Size of the file, None where neither it nor its server tells."""
        return self.index.file_nbytes

    @property
    def stats(self) -> ReadStats:
        """What was fetched and found in the cache so far."""
        fetched = self.source.counters.snapshot()
        return ReadStats(
            requests=fetched.requests,
            nbytes=fetched.bytes,
            retries=fetched.retries,
            seconds=fetched.seconds,
            cache_hits=self.cache.hits,
            cache_misses=self.cache.misses,
            cache_nbytes=self.cache.nbytes,
        )

    @property
    def georef(self) -> Georef:
        """Georeference of level 0."""
        return self.header.georef

    def array(self, name: str | None = None, level: int = 0) -> ArrayInfo:
        """Give one array's description; the first data array without a name."""
        return self.header.arrays[self.header.find(name, level)]

    def level_georef(self, level: int) -> Georef:
        """Georeference of an overview level."""
        return self.header.level_georef(self.array(level=level))

    def bounds(self) -> Bbox:
        """Bounding box (xmin, ymin, xmax, ymax) in the CRS."""
        height, width = self.array().shape[-2:]
        return self.georef.bounds(height, width)

    def window(self, bbox: Sequence[float], level: int = 0) -> Window:
        """Pixels of a level that a bounding box touches.

        Raises
        ------
        WindowError
            The box lies outside the raster.
        """
        height, width = self.array(level=level).shape[-2:]
        return self.level_georef(level).window(bbox, height, width)

    def plan(
        self, selection: Sequence[slice], *, position: int | None = None
    ) -> ReadPlan:
        """Say what reading a selection takes; reads pages of the table at most.

        Parameters
        ----------
        selection
            One slice per dim, ``0 <= start <= stop <= n``, step 1.
        position
            Which of `header.arrays`; the first data array by default.
        """
        position = self.header.find() if position is None else position
        cuts = tuple(self.header.arrays[position].grid.cuts(selection))
        entries = tuple(self.index.lookup(position, [cut.number for cut in cuts]))
        ranges = [ByteRange(e.offset, e.stop) for e in entries]
        requests = self.source.limits.plan(ranges)
        return ReadPlan(
            cuts, entries, tuple(ByteRange(r.start, r.stop) for r in requests)
        )

    def read(
        self,
        window: Window | None = None,
        *,
        bands: Sequence[int] | None = None,
        name: str | None = None,
        level: int = 0,
        threads: int | None = None,
    ) -> NDArray[Any]:
        """Read pixels of one array.

        Parameters
        ----------
        window
            Rows and columns; all of them by default.
        bands
            Positions along ``band``, from 0; all of them by default.
        name, level
            Which array.
        threads
            Threads that decode; the raster's own number by default.

        Returns
        -------
        ndarray, shape (..., row, col)
            In the array's dtype, bit-identical to what was written.

        Raises
        ------
        ArrayNotFoundError
            There is no such array.
        WindowError
            The window or a band lies outside the raster.
        CorruptTileError
            A tile is damaged; nothing is returned.
        SourceError
            Bytes could not be had.
        """
        position = self.header.find(name, level)
        info = self.header.arrays[position]
        whole = tuple(slice(0, n) for n in info.shape)
        selection = whole if window is None else (*whole[:-2], *window.slices)
        if bands is None:
            return self.read_selection(selection, position=position, threads=threads)
        axis = info.dims.index("band")
        runs = _runs(bands)
        blocks = [
            (*selection[:axis], slice(start, stop), *selection[axis + 1 :])
            for start, stop in runs
        ]
        for block in blocks:
            _check_inside(block, info)
        shape = [s.stop - s.start for s in selection]
        shape[axis] = len(bands)
        out = np.empty(shape, numpy_dtype(info.dtype))
        ends = np.cumsum([stop - start for start, stop in runs])
        targets = np.split(out, ends[:-1], axis)
        self.read_blocks(blocks, targets, position, threads)
        return out

    def read_selection(
        self,
        selection: Sequence[slice],
        *,
        position: int | None = None,
        threads: int | None = None,
        fetch: FetchTiles | None = None,
    ) -> NDArray[Any]:
        """Read a block of an array given by one slice per dim, step 1.

        See `read` for what is returned and raised. `fetch` stands in for
        `fetch_tiles`, for who has the bytes already.
        """
        position = self.header.find() if position is None else position
        info = self.header.arrays[position]
        _check_inside(selection, info)
        out = np.empty([s.stop - s.start for s in selection], numpy_dtype(info.dtype))
        self.read_blocks([selection], [out], position, threads, fetch)
        return out

    def read_blocks(
        self,
        blocks: Sequence[Sequence[slice]],
        targets: Sequence[NDArray[Any]],
        position: int,
        threads: int | None = None,
        fetch: FetchTiles | None = None,
    ) -> None:
        """Read several blocks of one array as one plan, each into its target.

        Parameters
        ----------
        blocks
            Slices inside the array, one per dim, step 1.
        targets
            Arrays of the blocks' shapes and the array's dtype; views will do.
        position
            Which of `header.arrays`.
        threads, fetch
            As in `read_selection`.

        Raises
        ------
        CorruptTileError, SourceError
            See `read`; the targets hold anything then.
        """
        info = self.header.arrays[position]
        todo = [
            (cut, target)
            for block, target in zip(blocks, targets, strict=True)
            for cut in info.grid.cuts(block)
        ]
        cached = fetch is None and self.cache.serves(sum(t.nbytes for t in targets))
        if cached:
            todo = [job for job in todo if not self._place_cached(position, *job)]
        self._each_tile(
            position,
            [cut.number for cut, _ in todo],
            lambda k, data: self._place(data, position, *todo[k], keep=cached),
            threads,
            fetch,
        )

    def _place_cached(self, position: int, cut: TileCut, out: NDArray[Any]) -> bool:
        """Copy a tile's part of the result from the cache, if it is there."""
        tile = self.cache.get((position, cut.number))
        if tile is not None:
            out[cut.into] = tile[cut.within]
        return tile is not None

    def visit_tiles(
        self,
        indices: Sequence[tuple[int, ...]],
        visit: Callable[[int, NDArray[Any]], object],
        *,
        position: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Decode tiles, each once, and hand them over as they arrive.

        Parameters
        ----------
        indices
            Tile indices.
        visit
            Called with the place in `indices` and the tile's pixels, from several
            threads at once.
        position
            Which of `header.arrays`; the first data array by default.
        threads
            Threads that decode; the raster's own number by default.

        Raises
        ------
        WindowError, CorruptTileError, SourceError
            See `read`.
        """
        at = self.header.find() if position is None else position
        grid = self.header.arrays[at].grid

        def decode(k: int, data: bytes | memoryview) -> None:
            shape = grid.tile_shape(indices[k])
            out = np.empty(shape, numpy_dtype(self.header.arrays[at].dtype))
            all_of_it = tuple(slice(0, n) for n in shape)
            cut = TileCut(indices[k], grid.number(indices[k]), all_of_it, all_of_it)
            self._place(data, at, cut, out)
            visit(k, out)

        self._each_tile(at, [grid.number(i) for i in indices], decode, threads)

    def fetch_tiles(
        self, position: int, numbers: Sequence[int]
    ) -> Iterator[tuple[int, bytes | memoryview]]:
        """Fetch tiles as they lie in the file, in as few requests as pay.

        Parameters
        ----------
        position
            Which of `header.arrays`.
        numbers
            Tile numbers.

        Yields
        ------
        int, bytes-like
            Place in `numbers`, and the tile's FLAC stream, unchecked; nothing for an
            empty tile. In the order of arrival.
        """
        entries = self.index.lookup(position, numbers)
        full = [k for k, entry in enumerate(entries) if entry.nbytes]
        for k, entry in enumerate(entries):
            if not entry.nbytes:
                yield k, b""
        ranges = [ByteRange(entries[k].offset, entries[k].stop) for k in full]
        try:
            for k, data in self.index.source.read_ranges(ranges):
                yield full[k], data
        except SourceChangedError:
            header_cache.forget(self._key)
            raise

    def _each_tile(
        self,
        position: int,
        numbers: Sequence[int],
        use: Callable[[int, bytes | memoryview], object],
        threads: int | None,
        fetch: FetchTiles | None = None,
    ) -> None:
        """Fetch tiles and call `use` with each one's place and bytes, in threads."""
        if fetch is None:
            arrived = self.fetch_tiles(position, numbers)
        else:
            arrived = fetch(self, position, numbers)
        n_arrived = run_on_arrival(
            arrived, use, min(threads or self.threads, len(numbers))
        )
        if n_arrived != len(numbers):  # never a pixel that nobody has written
            msg = f"{self.name}: {n_arrived} of {len(numbers)} tiles arrived"
            raise SourceError(msg, url=self.name)

    def _place(
        self,
        data: bytes | memoryview,
        position: int,
        cut: TileCut,
        out: NDArray[Any],
        *,
        keep: bool = False,
    ) -> None:
        """Check and decode one tile into its part of the result."""
        info = self.header.arrays[position]
        shape = info.grid.tile_shape(cut.index)
        target = out[cut.into]
        whole = target.shape == shape
        try:
            self.index.table(position, cut.number).check_tile(
                data, position, cut.number
            )
            if not len(data):
                target[...] = empty_pixel(info.nodata_pixel(cut.index), info.dtype)
            elif keep:
                tile = self.index.decode(data, shape=shape, dtype=info.dtype)
                self.cache.put((position, cut.number), tile)
                target[...] = tile[cut.within]
            elif whole:
                self.index.decode(data, shape=shape, dtype=info.dtype, out=target)
            else:
                target[...] = self.index.decode(data, shape=shape, dtype=info.dtype)[
                    cut.within
                ]
        except FormatError as error:
            entry = self.index.table(position, cut.number).entry(cut.number)
            msg = (
                f"{self.name}: tile {cut.index} of array {info.name!r} "
                f"(byte {entry.offset}, {entry.nbytes} bytes): {error}"
            )
            raise CorruptTileError(msg, tile=cut.index, offset=entry.offset) from error

    def read_tile_bytes(
        self, index: Sequence[int], *, position: int | None = None, seal: bool = False
    ) -> bytes:
        """Read one tile as it lies in the file: a complete FLAC stream.

        Parameters
        ----------
        index
            Of the tile.
        position
            Which of `header.arrays`; the first data array by default.
        seal
            Add a checksum to the stream, since that in the tile table stays behind: for
            a tile that will be a file of its own.

        Returns
        -------
        bytes
            Empty for an empty tile.
        """
        position = self.header.find() if position is None else position
        number = self.header.arrays[position].grid.number(index)
        (entry,) = self.index.lookup(position, [number])
        data = b""
        if entry.nbytes:
            data = bytes(self.index.source.read_range(entry.offset, entry.stop))
        self.index.table(position, number).check_tile(data, position, number)
        return seal_stream(data) if seal and data else data


def _reopen(
    cls: type[FlacRaster], source: Source, threads: int, cache_nbytes: int
) -> FlacRaster:
    return cls.open(source, threads=threads, cache_nbytes=cache_nbytes)


def _check_inside(selection: Sequence[slice], info: ArrayInfo) -> None:
    for s, dim, n in zip(selection, info.dims, info.shape, strict=True):
        if not 0 <= s.start <= s.stop <= n:
            msg = (
                f"{dim} {s.start}:{s.stop} lies outside array {info.name!r}, whose "
                f"shape is {info.sizes}"
            )
            raise WindowError(msg)


def _runs(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Half-open runs of consecutive positions, in the order given."""
    runs: list[tuple[int, int]] = []
    for p in positions:
        if runs and p == runs[-1][1]:
            runs[-1] = (runs[-1][0], p + 1)
        else:
            runs.append((p, p + 1))
    return runs
