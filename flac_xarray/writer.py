"""Writing a FLAC raster: tiles in any order, header last (docs/format.md, section 8).

Strategy: the header's size follows from its content and the tile count, so it is
reserved, encoded tiles are appended behind it at claimed offsets, and `close` writes
header and tables and makes the file appear. Encoding needs no lock; the only shared
state is where the next tile goes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flac_xarray.container import header_nbytes, pack_header
from flac_xarray.crew import Crew
from flac_xarray.dtypes import empty_pixel
from flac_xarray.errors import FormatError, SourceError, UnsupportedDataError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.header import Header
from flac_xarray.overview_plan import OverviewPlan, Overviews, Resampling
from flac_xarray.pyramid import OverviewTile, Pyramid
from flac_xarray.sinks import Sink, open_sink
from flac_xarray.tile_codec import decode_tile
from flac_xarray.tile_encoder import DEFAULT_EFFORT, TileEncoder
from flac_xarray.tile_queue import Encoded, TileQueue
from flac_xarray.tile_table import TileTable

__all__ = ["FlacRasterWriter"]


class FlacRasterWriter:
    """A FLAC raster being written; a context manager that leaves all or nothing.

    Use `create`. Tiles never written are empty when `fill_missing` is true, and an
    error on `close` otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> from flac_xarray.header import ArrayInfo, Header
    >>> from flac_xarray.sinks import MemorySink
    >>> header = Header((ArrayInfo("a", "uint8", ("y", "x"), (2, 3), (2, 2)),))
    >>> sink = MemorySink()
    >>> with FlacRasterWriter(sink, header) as writer:
    ...     writer.write(np.arange(6, dtype="uint8").reshape(2, 3))
    >>> len(sink.value) > 0
    True
    """

    def __init__(
        self,
        sink: Sink,
        header: Header,
        *,
        effort: int = DEFAULT_EFFORT,
        interleave: str = "band",
        threads: int | None = None,
        fill_missing: bool = False,
        overviews: Overviews = None,
        resampling: Resampling = "nearest",
    ) -> None:
        if interleave not in ("band", "pixel") or effort not in range(10):
            msg = (
                f"interleave {interleave!r} (band, pixel) or effort {effort!r} (0 to 9)"
            )
            raise ValueError(msg)
        plan = OverviewPlan.of(header, overviews, resampling)
        self.sink = sink
        self.header = plan.header
        self.encoder = TileEncoder(plan.header, effort, interleave)
        self.threads = threads or os.cpu_count() or 1
        self.fill_missing = fill_missing
        self._rows: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._pyramid = Pyramid(plan)
        self._next = header_nbytes(plan.header)
        self._lock = fork_safe_lock()
        self._open = True
        self._failed: BaseException | None = None

    @classmethod
    def create(
        cls,
        target: str | os.PathLike[str],
        header: Header,
        *,
        overwrite: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Begin a file.

        Parameters
        ----------
        target
            Path or URL.
        header
            What the file will say about itself.
        overwrite
            Whether an existing file may be replaced.
        storage_options
            Options of the fsspec file system.
        **options
            ``effort``, ``interleave``, ``threads``, ``fill_missing``; ``overviews``
            (``"auto"`` until one tile covers the raster, or factors such as
            ``(2, 4, 8)``) and ``resampling`` (a method, or one by array name): levels
            that are made of what is written and that `header` then has in addition.

        Raises
        ------
        FileExistsError
            There is one and `overwrite` is false.
        ValueError
            An option has no such value.
        """
        sink = open_sink(target, storage_options, overwrite=overwrite)
        try:
            return cls(sink, header, **options)
        except BaseException:
            sink.abort()
            raise

    def write_encoded(self, position: int, index: Sequence[int], data: bytes) -> None:
        """Append one encoded tile (nothing for an empty one); safe from any thread.

        Where the writer makes overviews, the tile is decoded for them.

        Raises
        ------
        ValueError
            The tile was written before.
        """
        self._append(position, index, data)
        if self._pyramid.feeds(position):
            todo = self._pyramid.add(
                position, index, self._decoded(position, index, data)
            )
            while todo:
                todo += self._write_overview(todo.pop())

    def _append(self, position: int, index: Sequence[int], data: bytes) -> None:
        number = self.header.arrays[position].grid.number(index)
        crc = zlib.crc32(data) if data else 0
        with self._lock:
            if (position, number) in self._rows:
                msg = f"tile {tuple(index)} of array {position} was already written"
                raise ValueError(msg)
            offset = self._next if data else 0
            self._rows[position, number] = (offset, len(data), crc)
            self._next += len(data)
        try:
            if data:
                self.sink.put(data, offset)
        except BaseException as error:
            # Who catches this and goes on must not get a file with a hole in it.
            self._failed = error
            raise

    def _decoded(
        self, position: int, index: Sequence[int], data: bytes
    ) -> NDArray[Any]:
        info = self.header.arrays[position]
        shape = info.grid.tile_shape(index)
        if data:
            return decode_tile(data, shape=shape, dtype=info.dtype)
        pixel = empty_pixel(info.nodata_pixel(index), info.dtype)
        return np.broadcast_to(pixel, shape)

    def _write_overview(self, tile: OverviewTile) -> list[OverviewTile]:
        """Make and write an overview tile; give those that can be made now."""
        pixels = tile.make()
        data = self.encoder.encode(tile.position, tile.index, pixels)
        self._append(tile.position, tile.index, data)
        return self._pyramid.add(tile.position, tile.index, pixels)

    def write_tiles(
        self,
        tiles: Iterable[tuple[int, tuple[int, ...], Callable[[], NDArray[Any]]]],
        *,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Encode tiles in threads and append them in the order given.

        Overview tiles follow as soon as the tiles that they are made of are there.

        Parameters
        ----------
        tiles
            (position, tile index, function that gives the pixels); the functions are
            called one after another, in this thread, a few tiles ahead of the encoder.
        progress
            Called with the number of pixel bytes of each tile done.
        """
        crew: Crew[Encoded] = Crew(self.threads)
        with crew:
            queue = TileQueue(crew, self.encoder, self._pyramid, self._append, progress)
            for position, index, pixels in tiles:
                queue.put(position, index, pixels())
            queue.drain()

    def write(
        self,
        data: NDArray[Any],
        *,
        position: int = 0,
        offset: Sequence[int] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Write a block of whole tiles of one array.

        Parameters
        ----------
        data
            Pixels, one axis per dim of the array.
        position
            Which of `header.arrays`.
        offset
            Where the block begins, a multiple of the tile along each dim.
        progress
            See `write_tiles`.

        Raises
        ------
        UnsupportedDataError
            The block does not consist of whole tiles.
        """
        info = self.header.arrays[position]
        start = tuple(offset or (0,) * len(info.shape))
        ends = [o + n for o, n in zip(start, data.shape, strict=True)]
        for o, stop, n, t in zip(start, ends, info.shape, info.tile, strict=True):
            if o % t or (stop % t and stop != n) or stop > n:
                msg = (
                    f"block {data.shape} at {start} is not made of whole tiles "
                    f"{info.tile} of array {info.name!r} {info.shape}"
                )
                raise UnsupportedDataError(msg, dtype=str(data.dtype))
        block = tuple(slice(o, stop) for o, stop in zip(start, ends, strict=True))
        self.write_tiles(
            (
                (position, cut.index, partial(data.__getitem__, cut.into))
                for cut in info.grid.cuts(block)
            ),
            progress=progress,
        )

    def close(self) -> None:
        """Write header and tables and make the file appear.

        Raises
        ------
        FormatError
            Tiles are missing and `fill_missing` is false; nothing is left behind.
        SourceError
            Bytes could not be written, now or before; nothing is left behind.
        """
        if not self._open:
            return
        try:
            if self.fill_missing:
                for tile in self._pyramid.finish():
                    self._write_overview(tile)
            self._check_failed()
            tables = [self._table(k) for k in range(len(self.header.arrays))]
            self.sink.put(self._pack_head(tables), 0)
            self._open = False
            self.sink.commit()
        except BaseException:
            self.abort()
            raise

    def _pack_head(self, tables: Sequence[TileTable]) -> bytes:
        return pack_header(self.header, tables, self._next)

    def _check_failed(self) -> None:
        if self._failed is not None:
            msg = f"{self.sink.name}: a tile was not written: {self._failed}"
            raise SourceError(msg, url=self.sink.name) from self._failed

    def _table(self, position: int) -> TileTable:
        info = self.header.arrays[position]
        n_tiles = info.grid.n_tiles
        if not self.fill_missing:
            missing = [k for k in range(n_tiles) if (position, k) not in self._rows]
            if missing:
                msg = (
                    f"{len(missing)} of {n_tiles} tiles of array {info.name!r} were "
                    f"not written, the first being {info.grid.index(missing[0])}"
                )
                raise FormatError(msg)
        rows: Iterator[tuple[int, int, int] | None] = (
            self._rows.get((position, k)) for k in range(n_tiles)
        )
        return TileTable.build(position, rows)

    def abort(self) -> None:
        """Give up: nothing is left under the final name or beside it."""
        self._open = False
        self.sink.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
