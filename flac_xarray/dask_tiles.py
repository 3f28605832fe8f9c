"""A dask array whose chunks are tiles, and whose graph is made when it is needed.

Strategy: the layer knows its chunks and nothing else until dask culls it; then it knows
exactly which tiles the computation reads, and gives them to one `TilePlan` that all its
tasks share. A task is a name, a plan's name and slices: bytes, not kilobytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, Layer

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
    graph = HighLevelGraph.from_collections(name, layer)
    return da.Array(graph, name, chunks, dtype=view.dtype)  # type: ignore[no-untyped-call]


class _TileLayer(Layer):
    """The tasks of a tile array, or those of them that are wanted."""

    def __init__(
        self, name: str, view: TileView, chunks: Chunks, wanted: frozenset[Key] | None
    ) -> None:
        super().__init__()
        self.name = name
        self.view = view
        self.chunks = chunks
        self.wanted = wanted
        self._tasks: dict[Any, Any] | None = None

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
            wanted = np.fromiter(
                itertools.chain.from_iterable(
                    map(self.view.tile_numbers, blocks.values())
                ),
                np.uint32,
            )
            plan_key = f"tile-plan-{tokenize(self.name, wanted)}"
            plan = DataNode(plan_key, TilePlan(self.view, wanted))
            self._tasks = {plan_key: plan} | {
                key: Task(key, TilePlan.read, TaskRef(plan_key), block)
                for key, block in blocks.items()
            }
        return self._tasks

    def cull(
        self, keys: set[Any], all_hlg_keys: Any
    ) -> tuple[Layer, Mapping[Any, set[Any]]]:
        """Keep the tiles that are wanted; now the plan is known."""
        del all_hlg_keys
        wanted = frozenset(key for key in self.get_output_keys() if key in keys)
        if not wanted and self._tasks is not None:  # asked for the plan alone
            return self, {key: set() for key in self._tasks}
        layer = _TileLayer(self.name, self.view, self.chunks, wanted)
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
