"""Files joined by copying their tiles: no tile is decoded, none is encoded again.

Strategy: `header_join` decides where every tile goes. Tiles are then copied in groups
of some megabytes, each by a task of dask that checks every tile against its row and
stores the same bytes, so a damaged tile is never copied. Rows and checksums are made
anew, because they cover a tile's place (docs/format.md, section 6).
"""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dask_writer import Leaf, begin_place, compute, joined_graph
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.header_cache import forget_file
from flac_xarray.header_join import Joining, join_along, join_variables
from flac_xarray.lazy_array import RasterRef
from flac_xarray.legacy_tiles import LegacyDecoder
from flac_xarray.tile_batch import Batch, EncodedTile
from flac_xarray.tile_encoder import TileEncoder
from flac_xarray.tile_job import TileJob

if TYPE_CHECKING:
    from flac_xarray.reader import FlacRaster

__all__ = ["check_copyable", "copies", "merge", "still_the_same"]

COPY_NBYTES: Final = 8 << 20
"""Bytes of tiles that one task copies."""


def merge(
    files: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    dim: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Join FLAC rasters into one file, by copying tiles without decoding them.

    Parameters
    ----------
    files
        Paths or URLs, in order.
    target
        Path or URL of the file that is made.
    dim
        Joins them one behind the other along this dim of theirs (``"time"``,
        ``"band"``, ``"y"``, ...); in every file but the last it must be whole tiles.
        Without it they hold different variables over the same pixels.
    overwrite
        Whether an existing file may be replaced, also by a join of itself.
    storage_options
        Options of the fsspec file system, for files and target.

    Raises
    ------
    UnsupportedDataError
        The files do not fit together; the message says which, and why.
    CorruptTileError
        A tile of theirs is damaged.
    FileExistsError
        The target exists and `overwrite` is false.

    Examples
    --------
    >>> import tempfile
    >>> from flac_xarray import FlacRaster, write_array
    >>> folder = tempfile.mkdtemp()
    >>> names = [os.path.join(folder, f"{k}.flac") for k in range(3)]
    >>> for k in range(2):
    ...     write_array(names[k], np.full((1, 4, 4), k, "uint8"))
    >>> merge(names[:2], names[2], dim="band")
    >>> FlacRaster.open(names[2]).read().max(axis=(1, 2)).tolist()
    [0, 1]
    """
    if not files:
        msg = "no files to join"
        raise ValueError(msg)
    refs = [RasterRef.open(file, storage_options) for file in files]
    rasters = [ref.raster() for ref in refs]
    names = [raster.name for raster in rasters]
    for raster in rasters:
        check_copyable(raster)
    headers = [raster.header for raster in rasters]
    if dim is None:
        joining = join_variables(headers, names)
    else:
        plane = dict(zip(headers[0].extra.get("plane", ()), ("y", "x"), strict=False))
        dim = plane.get(dim, dim)
        joining = join_along(headers, names, dim)
        _check_repeated(rasters, dim)
    place = begin_place(
        target, joining.header, overwrite=overwrite, storage_options=storage_options
    )
    job = TileJob(TileEncoder(joining.header), place)
    token = uuid.uuid4().hex
    graph: dict[Any, Any] = {}
    leaves: list[Leaf] = []
    try:
        for part, ref in enumerate(refs):
            more, some = copies(joining, part, ref, token)
            graph |= more
            leaves += some
        compute(joined_graph(graph, leaves, job, token), place)
    finally:
        for ref in refs:
            ref.close()
    forget_file(target, storage_options)


def check_copyable(raster: FlacRaster) -> None:
    """Refuse a file whose tiles are not those of the format.

    Raises
    ------
    UnsupportedDataError
        It is an old file, or a bare tile.
    """
    if isinstance(raster.index.decode, LegacyDecoder):
        msg = (
            f"{raster.name} was written by an old flac-raster: its tiles cannot be "
            "copied into another file; write it anew first"
        )
        raise UnsupportedDataError(msg)


def _check_repeated(rasters: Sequence[FlacRaster], dim: str) -> None:
    """Refuse other tiles than the first file's in arrays that are not joined."""
    first = rasters[0]
    for at, info in enumerate(first.header.arrays):
        if dim in info.dims:
            continue
        for raster in rasters[1:]:
            for k, other in enumerate(raster.header.arrays):
                if (other.name, other.role, other.level) == (
                    *(info.name, info.role),
                    info.level,
                ) and not _same_tiles((first, at), (raster, k), info.grid.n_tiles):
                    msg = (
                        f"{raster.name} cannot be joined: array {info.name!r} has no "
                        f"dim {dim!r} and other tiles than in {first.name}"
                    )
                    raise UnsupportedDataError(msg)


def _same_tiles(
    one: tuple[FlacRaster, int], other: tuple[FlacRaster, int], n_tiles: int
) -> bool:
    for start in range(0, n_tiles, 64):
        numbers = range(start, min(start + 64, n_tiles))
        found = [
            {k: bytes(data) for k, data in raster.fetch_tiles(array, numbers)}
            for raster, array in (one, other)
        ]
        if found[0] != found[1]:
            return False
    return True


def copies(
    joining: Joining, part: int, ref: RasterRef, token: str
) -> tuple[dict[Any, Any], list[Leaf]]:
    """Give the tasks that copy the tiles of one file.

    Parameters
    ----------
    joining
        Where they go.
    part
        Which of the joined files it is.
    ref
        The file.
    token
        Makes the keys of this write its own.
    """
    raster = ref.raster()
    source = f"flac-source-{part}-{token}"
    graph: dict[Any, Any] = {source: ref}
    leaves: list[Leaf] = []
    for array, info in enumerate(raster.header.arrays):
        place = joining.places[part][array]
        if place is None or not info.grid.n_tiles:
            continue
        moved = joining.numbers(part, array, info.grid)
        entries = raster.index.lookup(array, range(info.grid.n_tiles))
        sizes = np.array([entry.nbytes for entry in entries], np.int64)
        for k, group in enumerate(_groups(sizes)):
            key = (f"flac-copy-{part}-{array}-{token}", k)
            numbers = np.arange(info.grid.n_tiles)[group]
            graph[key] = (
                copy_tiles,
                f"flac-job-{token}",
                source,
                (array, place[0]),
                numbers,
                moved[group],
            )
            leaves.append((key, int(sizes[group].sum())))
    return graph, leaves


def _groups(sizes: NDArray[np.int64]) -> Iterator[slice]:
    which = np.cumsum(sizes) // COPY_NBYTES
    cuts = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(sizes)]
    for start, stop in pairwise(cuts):
        yield slice(start, stop)


def copy_tiles(
    job: TileJob,
    ref: RasterRef,
    positions: tuple[int, int],
    numbers: NDArray[np.int64],
    moved: NDArray[np.int64],
) -> Batch:
    """Copy some tiles of one array; a task.

    Raises
    ------
    CorruptTileError
        One of them is damaged.
    """
    raster = ref.raster()
    array, position = positions
    found: dict[int, bytes] = {}
    for k, data in raster.fetch_tiles(array, numbers.tolist()):
        number = int(numbers[k])
        raster.index.table(array, number).check_tile(data, array, number)
        found[k] = bytes(data)
    return job.store(
        EncodedTile(position, int(moved[k]), found.pop(k)) for k in range(len(numbers))
    )


def still_the_same(ref: RasterRef) -> bool:
    """Say that a file is the one that was opened; a task, just before it is replaced.

    Raises
    ------
    SourceChangedError
        Another writer has replaced it meanwhile.
    """
    # A copy opens the file anew, and compares it with what the first found.
    source = pickle.loads(pickle.dumps(ref.raster().source))  # noqa: S301  (our own)
    try:
        source.read_prefix(64)
    finally:
        source.close()
    return True
