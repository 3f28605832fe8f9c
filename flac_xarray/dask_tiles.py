"""A dask array whose chunks are tiles, and whose graph is made when it is needed.

Strategy: the layer knows its chunks and nothing else until dask culls it; then it knows
exactly which tiles the computation reads, and gives them to one `TilePlan` that all its
tasks share. A task is a name, a plan's name and slices: bytes, not kilobytes.

For a cluster there are tasks more: each fetches a batch of neighbouring tiles, which
the tasks that decode them find on the worker where it ran. One process needs none, its
plan fetches ahead (`tile_plan`).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask import config
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, Layer

from flac_xarray.fetch_ahead import BATCH_NBYTES
from flac_xarray.tile_plan import TilePlan

if TYPE_CHECKING:
    from flac_xarray.tile_view import TileView

__all__ = ["Chunks", "tile_array"]

Key = tuple[Any, ...]
Chunks = tuple[tuple[int, ...], ...]


def tile_array(view: TileView, chunks: Chunks, name: str) -> da.Array:
    """Make the dask array of a view.

    Parameters
    ----------
    view
        What the chunks are read from.
    chunks
        Sizes along each dim; whole multiples of the tiles read each tile once.
    name
        Of the graph's layer; the same for the same content.
    """
    layer = _TileLayer(name, view, chunks, None)
    layer.together = _fetched_together(view)
    graph = HighLevelGraph.from_collections(name, layer)
    return da.Array(graph, name, chunks, dtype=view.dtype)  # type: ignore[no-untyped-call]


def _fetched_together(view: TileView) -> int:
    """Tiles that are worth a task that fetches them; 0 where the file is near."""
    raster = view.array.ref.raster()
    if raster.source.limits.concurrency == 1 or not raster.nbytes:
        return 0
    tiles = sum(info.grid.n_tiles for info in raster.header.arrays)
    return BATCH_NBYTES * tiles // raster.nbytes


class _TileLayer(Layer):
    """The tasks of a tile array, or those of them that are wanted."""

    together = 0
    """Most tiles that one task fetches for others, on a cluster."""
    has_travelled = False
    """Whether it comes from another process."""

    def __init__(
        self, name: str, view: TileView, chunks: Chunks, wanted: frozenset[Key] | None
    ) -> None:
        super().__init__()
        self.name = name
        self.view = view
        self.chunks = chunks
        self.wanted = wanted
        self._tasks: dict[Any, Any] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, has_travelled=True)

    def _keys(self) -> Iterator[Key]:
        if self.wanted is not None:
            yield from self.wanted
            return
        for index in itertools.product(*(range(len(sizes)) for sizes in self.chunks)):
            yield (self.name, *index)

    def _made(self) -> Mapping[Any, Any]:
        from dask._task_spec import DataNode, Task, TaskRef

        if self._tasks is None:
            keys = sorted(self._keys())
            stops = [list(itertools.accumulate(sizes)) for sizes in self.chunks]
            blocks = {
                key: tuple(
                    slice(ends[i] - sizes[i], ends[i])
                    for i, ends, sizes in zip(key[1:], stops, self.chunks, strict=True)
                )
                for key in keys
            }
            tiles = {
                key: list(self.view.tile_numbers(block))
                for key, block in blocks.items()
            }
            wanted = np.fromiter(itertools.chain(*tiles.values()), np.uint32)
            token = tokenize(self.name, wanted)
            plan_key = f"tile-plan-{token}"
            plan = DataNode(plan_key, TilePlan(self.view, wanted))
            fetches, batch_of = self._batched(tiles, f"tile-batch-{token}")
            self._tasks = {
                plan_key: plan,
                **{
                    key: Task(key, TilePlan.fetch, TaskRef(plan_key), numbers)
                    for key, numbers in fetches.items()
                },
                **{
                    key: Task(
                        key,
                        TilePlan.read,
                        TaskRef(plan_key),
                        block,
                        TaskRef(batch_of[key]) if key in batch_of else None,
                    )
                    for key, block in blocks.items()
                },
            }
        return self._tasks

    def _batched(
        self, tiles: Mapping[Key, list[int]], name: str
    ) -> tuple[dict[Key, list[int]], dict[Key, Key]]:
        """Group neighbours for a cluster: what is fetched together, and for whom."""
        fetches: dict[Key, list[int]] = {}
        batch_of: dict[Key, Key] = {}
        if not _for_a_cluster(has_travelled=self.has_travelled):
            return fetches, batch_of
        batch: Key | None = None
        for key, numbers in tiles.items():
            if len(numbers) * 2 > self.together:
                batch = None  # it fetches enough at once by itself
                continue
            if batch is None or len(fetches[batch]) + len(numbers) > self.together:
                batch = (name, len(fetches))
                fetches[batch] = []
            fetches[batch] += numbers
            batch_of[key] = batch
        return fetches, batch_of

    def cull(
        self, keys: set[Any], all_hlg_keys: Any
    ) -> tuple[Layer, Mapping[Any, set[Any]]]:
        """Keep the tiles that are wanted; now the plan is known."""
        del all_hlg_keys
        wanted = frozenset(key for key in self.get_output_keys() if key in keys)
        if not wanted and self._tasks is not None:  # asked for the plan alone
            return self, {key: set() for key in self._tasks}
        layer = _TileLayer(self.name, self.view, self.chunks, wanted)
        layer.together, layer.has_travelled = self.together, self.has_travelled
        return layer, {
            key: set(task.dependencies) for key, task in layer._made().items()
        }

    @property
    def has_legacy_tasks(self) -> bool:
        """Whether tasks are tuples; dask would make them all to find out."""
        return False

    def get_output_keys(self) -> set[Any]:
        """Keys of the chunks."""
        return set(self._keys())

    def is_materialized(self) -> bool:
        """Whether the tasks exist."""
        return self._tasks is not None

    def __getitem__(self, key: Any) -> Any:
        return self._made()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())

    def __repr__(self) -> str:
        return f"<tiles of {self.name!r}>"


def _for_a_cluster(*, has_travelled: bool) -> bool:
    """Whether the tasks that are being made are for dask.distributed.

    Its client hands layers over as they are, so they are made where the scheduler runs.
    """
    clusters = ("dask.distributed", "distributed")
    is_scheduler = has_travelled and "distributed.scheduler" in sys.modules
    return is_scheduler or config.get("scheduler", None) in clusters
