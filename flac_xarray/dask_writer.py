"""Dask arrays to a file, in any of dask's schedulers.

Strategy: a graph, nothing else. Each block of whole tiles is encoded and stored by one
task, in the worker that computed it; its answer says where the tiles went. A tree of
small tasks joins the answers, and the last one writes the header. There is no lock but
that of the file system around a claim of bytes, and no pixel comes to the client.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from flac_xarray.container import header_nbytes
from flac_xarray.header import Header
from flac_xarray.object_upload import MAX_PARTS, begin_upload
from flac_xarray.shared_file import SharedFile
from flac_xarray.tile_batch import Batch, joined
from flac_xarray.tile_chunks import Chunks, plan_blocks, warn_if_expensive
from flac_xarray.tile_job import Place, TileJob

__all__ = [
    "BlockSource",
    "Leaf",
    "begin_place",
    "compute",
    "encoded_blocks",
    "joined_graph",
]

GROUP_NBYTES: Final = 32 << 20
"""Bytes of pixels whose tiles are stored as one part, or in more of them."""
IN_MEMORY_NBYTES: Final = 4 << 20
"""Bytes of a block of an array in memory."""
FAN_IN: Final = 16
"""Answers that one task joins."""

Leaf = tuple[Any, int]
"""Key of a task that gives a `Batch`, and the bytes of pixels behind it."""


def begin_place(
    target: str | os.PathLike[str],
    header: Header,
    *,
    overwrite: bool,
    storage_options: Mapping[str, Any] | None,
) -> Place:
    """Begin a file that tasks write.

    Raises
    ------
    FileExistsError
        It exists and `overwrite` is false.
    SourceError
        It cannot be written.
    """
    text = os.fspath(target).removeprefix("file://")
    if "://" in text or "::" in text:
        return begin_upload(text, storage_options, overwrite=overwrite)
    return SharedFile.create(text, overwrite=overwrite, reserve=header_nbytes(header))


@dataclass(frozen=True, slots=True)
class BlockSource:
    """An array that is encoded, and where it lies in the file."""

    variable: xr.Variable
    """As the file holds it; NumPy or dask."""
    position: int
    """Which array of the header."""
    start: tuple[int, ...]
    """Its first pixel along each dim, at the start of a tile."""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """How the blocks of one array are encoded: sent to a worker once, not by task."""

    job: TileJob
    position: int
    starts: Chunks
    """First pixel of each block along each dim."""

    def encode(self, block: NDArray[Any], index: Sequence[int]) -> Batch:
        start = [along[k] for along, k in zip(self.starts, index, strict=True)]
        return self.job.encode(self.position, start, block)


def encoded_blocks(
    sources: Sequence[BlockSource], job: TileJob, token: str
) -> tuple[Mapping[Any, Any], list[Leaf]]:
    """Give the tasks that encode and store the arrays of a plan.

    Parameters
    ----------
    sources
        The arrays; those in memory are cut into blocks too.
    job
        Encodes and stores them.
    token
        Makes the keys of this write its own.

    Returns
    -------
    graph, list of leaves
        The leaves are in the order of the tiles.
    """
    answers, sizes = [], []
    for source in sources:
        variable, position = source.variable, source.position
        info = job.header.arrays[position]
        if variable.chunks is None:
            values = np.asarray(variable.values)
            whole = tuple((n,) for n in values.shape)
            blocks = plan_blocks(
                whole, info.tile, values.dtype.itemsize, IN_MEMORY_NBYTES
            )
            array = da.from_array(values, blocks)  # type: ignore[no-untyped-call]
        else:
            array = variable.data
            blocks = plan_blocks(array.chunks, info.tile, array.dtype.itemsize)
            warn_if_expensive(info.name, array.chunks, blocks, info.tile, array.nbytes)
            array = array.rechunk(blocks)
        if array.size == 0:
            continue
        starts = tuple(
            tuple(accumulate(c, initial=o))[:-1]
            for c, o in zip(blocks, source.start, strict=True)
        )
        shared = delayed(
            _Blocks(job, position, starts),
            name=f"flac-blocks-{position}-{token}",
            traverse=False,
        )
        answers.append(
            da.map_blocks(  # type: ignore[no-untyped-call]
                _encode,
                array,
                shared,
                name=f"flac-encode-{position}-{token}",
                chunks=tuple((1,) * len(c) for c in blocks),
                dtype=object,
                meta=np.empty((0,) * array.ndim, object),
            )
        )
        sizes.append(_block_nbytes(blocks, array.dtype.itemsize))
    keys = [_in_order(a.__dask_keys__()) for a in answers]
    # All together: what several variables are computed from is computed once.
    graph = da.Array.__dask_optimize__(
        HighLevelGraph.merge(*(a.dask for a in answers)),
        [key for some in keys for key in some],
    )
    return graph, [
        leaf
        for some, nbytes in zip(keys, sizes, strict=True)
        for leaf in zip(some, nbytes, strict=True)
    ]


def _encode(
    block: NDArray[Any], blocks: _Blocks, block_id: tuple[int, ...] = ()
) -> NDArray[np.object_]:
    answer = np.empty((1,) * block.ndim, object)
    answer[...] = [blocks.encode(np.asarray(block), block_id)]
    return answer


def _block_nbytes(blocks: tuple[tuple[int, ...], ...], itemsize: int) -> list[int]:
    sizes = np.ones((), np.int64)
    for along in blocks:
        sizes = np.multiply.outer(sizes, np.array(along, np.int64))
    return [int(n) * itemsize for n in sizes.ravel()]


def _in_order(keys: Any) -> list[Any]:
    """Flatten the nested keys of an array, in C order."""
    if isinstance(keys, list):
        return [key for some in keys for key in _in_order(some)]
    return [keys]


def joined_graph(
    graph: Mapping[Any, Any],
    leaves: Sequence[Leaf],
    job: TileJob,
    token: str,
    check: tuple[Any, ...] | None = None,
) -> Delayed:
    """Join the answers of all tasks and finish the file.

    Parameters
    ----------
    graph
        The tasks.
    leaves
        Those that answer.
    job
        Joins and finishes.
    token
        Makes the keys of this write its own.
    check
        A task that is run when all tiles are stored, and may refuse.

    Returns
    -------
    Delayed
        Computes to the name of the file.
    """
    levels = _plan_tree([nbytes for _, nbytes in leaves])
    job_key = f"flac-job-{token}"
    tasks: dict[Any, Any] = {job_key: job}
    number = 2
    keys = [key for key, _ in leaves]
    for depth, level in enumerate(levels):
        names = [(f"flac-join-{depth}-{token}", k) for k in range(len(level))]
        for k, (name, span) in enumerate(zip(names, level, strict=True)):
            tasks[name] = (_join, job_key, number, k == 0, keys[span])
            number += 1
        keys = names
    last = f"flac-finish-{token}"
    if check is not None:
        # Behind the answers: what it looks at must still be so at the end.
        checked = f"flac-check-{token}"
        tasks[checked] = (_after, check[0], check[1], keys)
        keys = [*keys, checked]
    tasks[last] = (_finish, job_key, keys)
    # The optimization has merged the arrays' layers: one is as good as several.
    layers = {last: dict(graph) | tasks}
    return Delayed(last, HighLevelGraph(layers, {last: set()}))  # type: ignore[no-untyped-call]


def compute(task: Delayed, place: Place, threads: int | None = None) -> None:
    """Run a write, in dask's current scheduler; leave all of it or nothing.

    Parameters
    ----------
    task
        Of `joined_graph`.
    place
        Where its bytes go.
    threads
        Of the threaded scheduler.
    """
    options = {"num_workers": threads} if threads else {}
    try:
        task.compute(**options)  # type: ignore[no-untyped-call]
    except BaseException:
        place.abort()
        raise
    place.release()


def _plan_tree(sizes: Sequence[int]) -> list[list[slice]]:
    """Plan which answers are joined, level by level, until one is left.

    Every task of the tree may store one part, and a store takes so many parts and no
    more, so very large arrays have larger groups.
    """
    scale = 1
    while True:
        levels = [_groups(sizes, scale * GROUP_NBYTES, scale * 4 * FAN_IN)]
        while len(levels[-1]) > 1:
            n = len(levels[-1])
            spans = range(0, n, FAN_IN)
            levels.append([slice(k, min(k + FAN_IN, n)) for k in spans])
        if sum(map(len, levels)) < MAX_PARTS - 1:
            return levels
        scale *= 2


def _groups(sizes: Sequence[int], max_nbytes: int, max_n: int) -> list[slice]:
    groups: list[slice] = []
    start = held = 0
    for k, nbytes in enumerate(sizes):
        held += nbytes
        if held >= max_nbytes or k + 1 - start >= max_n:
            groups.append(slice(start, k + 1))
            start, held = k + 1, 0
    if start < len(sizes):
        groups.append(slice(start, len(sizes)))
    return groups


def _join(job: TileJob, number: int, is_first: bool, answers: list[Any]) -> Batch:  # noqa: FBT001  (a task's argument)
    return job.join(number, [_batch(a) for a in answers], is_first=is_first)


def _after(check: Any, argument: Any, answers: list[Any]) -> Batch:
    del answers
    check(argument)
    return Batch()


def _finish(job: TileJob, answers: list[Any]) -> str:
    return job.finish(joined(map(_batch, answers)))


def _batch(answer: Any) -> Batch:
    return answer if isinstance(answer, Batch) else answer.item()
