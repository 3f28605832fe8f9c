"""Overview tiles, made as soon as the tiles that they need are there.

Strategy: tiles may come in any order and from any thread. A tile is kept until the last
overview tile that needs it has been made; written row by row, that is two or three rows
of tiles a level, whatever the size of the raster. What is handed out are functions: the
writer's threads make the pixels, encode them, and bring them back for the next level.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import empty_pixel, numpy_dtype
from flac_xarray.forking import fork_safe_lock
from flac_xarray.grid import TileCut
from flac_xarray.header import ArrayInfo
from flac_xarray.overview_plan import LevelSource, OverviewPlan
from flac_xarray.resampling import valid_pixels

__all__ = ["OverviewTile", "Pyramid", "make_part"]

PLANES_AT_ONCE: Final = 1 << 21
"""Source pixels that are computed with at a time."""

TileKey = tuple[int, int]
"""Position of an array, and a tile's number."""
Tiles = dict[TileKey, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class OverviewTile:
    """An overview tile that can be made."""

    position: int
    """Which of the header's arrays."""
    index: tuple[int, ...]
    """Tile index."""
    make: Callable[[], NDArray[Any]]
    """Gives its pixels."""


@dataclass(slots=True)
class _Kept:
    """A tile, and how many overview tiles need it still."""

    tile: NDArray[Any]
    users: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Pixels of one array that an overview tile is made of."""

    position: int
    selection: tuple[slice, ...]
    cuts: tuple[TileCut, ...]

    @property
    def keys(self) -> set[TileKey]:
        return {(self.position, cut.number) for cut in self.cuts}


@dataclass(slots=True)
class _Waiting:
    """An overview tile of which some pixels are there."""

    parts: tuple[_Part, ...]
    missing: set[TileKey] = field(default_factory=set)


class Pyramid:
    """Makes the overviews of a plan while level 0 is written.

    Parameters
    ----------
    plan
        The header with its levels, and what they are made of.
    """

    def __init__(self, plan: OverviewPlan) -> None:
        self.arrays = plan.header.arrays
        self.sources = plan.sources
        self._kept: dict[TileKey, _Kept] = {}
        self._waiting: dict[tuple[int, tuple[int, ...]], _Waiting] = {}
        self._lock = fork_safe_lock()
        pairs = ((s.position, s.mask) for s in self.sources.values())
        self._feeding = frozenset(itertools.chain.from_iterable(pairs))
        self._spans = {at: self._tile_spans(at) for at in self.sources}

    def feeds(self, position: int) -> bool:
        """Whether overviews are made of an array."""
        return position in self._feeding

    @property
    def n_kept(self) -> int:
        """Number of tiles that are kept."""
        return len(self._kept)

    def makes(self, position: int) -> bool:
        """Whether an array is an overview that is made here."""
        return position in self.sources

    def add(
        self, position: int, index: Sequence[int], tile: NDArray[Any]
    ) -> list[OverviewTile]:
        """Take a tile; give the overview tiles that can be made now.

        The tile is not copied: it must not change afterwards.
        """
        if position not in self._feeding:
            return []
        key = position, self.arrays[position].grid.number(index)
        with self._lock:
            users = list(self._users(position, tuple(index)))
            if users:
                self._kept[key] = _Kept(tile, len(users))
            ready = []
            for user in users:
                waiting = self._waiting.get(user)
                if waiting is None:
                    parts = tuple(self._parts(*user))
                    missing = set().union(*(part.keys for part in parts))
                    waiting = self._waiting[user] = _Waiting(parts, missing)
                waiting.missing.discard(key)
                if not waiting.missing:
                    ready.append(self._release(*user))
            return ready

    def finish(self) -> Iterator[OverviewTile]:
        """Give the overview tiles some of whose pixels were never written.

        Those pixels count as an empty tile's. Each tile that is made must be added
        before the next one is asked for.
        """
        while self._waiting:
            with self._lock:
                user = min(self._waiting)
                for position, number in self._waiting[user].missing:
                    info = self.arrays[position]
                    index = info.grid.index(number)
                    pixel = empty_pixel(info.nodata_pixel(index), info.dtype)
                    tile = np.broadcast_to(pixel, info.grid.tile_shape(index))
                    self._kept[position, number] = _Kept(tile, 1)
                job = self._release(*user)
            yield job

    def _release(self, position: int, index: tuple[int, ...]) -> OverviewTile:
        """Take an overview tile out of the waiting ones, with its pixels."""
        waiting = self._waiting.pop((position, index))
        tiles: Tiles = {}
        for key in set().union(*(part.keys for part in waiting.parts)):
            kept = self._kept[key]
            tiles[key] = kept.tile
            kept.users -= 1
            if not kept.users:
                del self._kept[key]
        make = partial(self._make, position, index, waiting.parts, tiles)
        return OverviewTile(position, index, make)

    def _make(
        self,
        position: int,
        index: tuple[int, ...],
        parts: tuple[_Part, ...],
        tiles: Tiles,
    ) -> NDArray[Any]:
        blocks = [
            _assembled(part, tiles, numpy_dtype(self.arrays[part.position].dtype))
            for part in parts
        ]
        info = self.arrays[position]
        corner = parts[0].selection[-2].start, parts[0].selection[-1].start
        at = info.grid.slices(index)
        opacity = None
        if len(blocks) > 1:
            has = self.arrays[parts[1].position].dims
            sizes = dict(zip(has, blocks[1].shape, strict=True))
            opacity = blocks[1].reshape([sizes.get(dim, 1) for dim in info.dims])
        return make_part(info, self.sources[position], at, blocks[0], corner, opacity)

    def _parts(self, position: int, index: tuple[int, ...]) -> Iterator[_Part]:
        """Give the pixels that an overview tile is made of, those of a mask second."""
        source, at = self.sources[position], self.arrays[position].grid.slices(index)
        plane = source.rule.needs((at[-2], at[-1]))
        yield self._part(source.position, (*at[:-2], *plane))
        dims = self.arrays[position].dims
        if source.mask is not None:
            has = self.arrays[source.mask].dims
            lead = [s for s, dim in zip(at[:-2], dims, strict=False) if dim in has]
            yield self._part(source.mask, (*lead, *plane))
        elif source.alpha is not None:
            band = slice(source.alpha, source.alpha + 1)
            lead = [
                band if dim == "band" else s
                for s, dim in zip(at[:-2], dims, strict=False)
            ]
            yield self._part(source.position, (*lead, *plane))

    def _part(self, position: int, selection: tuple[slice, ...]) -> _Part:
        cuts = tuple(self.arrays[position].grid.cuts(selection))
        return _Part(position, selection, cuts)

    def _tile_spans(self, position: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Give the first and last source tile of each tile row, and of each column."""
        source, info = self.sources[position], self.arrays[position]
        tile = self.arrays[source.position].tile[-2:]
        # Any tile does: rows do not depend on the column, nor columns on the row.
        first = tuple(
            slice(0, min(t, n)) for t, n in zip(tile, info.shape[-2:], strict=True)
        )
        spans = []
        for axis in (0, 1):
            n, t = info.shape[axis - 2], info.tile[axis - 2]
            ends = []
            for start in range(0, n, t):
                part = list(first)
                part[axis] = slice(start, min(start + t, n))
                need = source.rule.needs((part[0], part[1]))[axis]
                ends.append((need.start // tile[axis], (need.stop - 1) // tile[axis]))
            spans.append(np.array(ends, np.intp).reshape(-1, 2))
        return spans[0], spans[1]

    def _users(
        self, position: int, index: tuple[int, ...]
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Give the overview tiles that need a tile."""
        for at, source in self.sources.items():
            if position not in (source.position, source.mask):
                continue
            plane = [
                np.flatnonzero((ends[:, 0] <= i) & (i <= ends[:, 1])).tolist()
                for ends, i in zip(self._spans[at], index[-2:], strict=True)
            ]
            leading = self._leading(at, source, position, index)
            for user in itertools.product(*leading, *plane):
                yield at, user

    def _leading(
        self, at: int, source: LevelSource, position: int, index: tuple[int, ...]
    ) -> list[list[int]]:
        """Give the leading indices of the overview tiles that need a tile."""
        given, made = self.arrays[position], self.arrays[at]
        slices = dict(zip(given.dims, given.grid.slices(index), strict=True))
        out = []
        for dim, count, tile in zip(
            made.dims[:-2], made.grid.counts, made.tile, strict=False
        ):
            here = slices.get(dim)
            alpha = (
                source.alpha if dim == "band" and position == source.position else None
            )
            is_alpha = (
                alpha is not None
                and here is not None
                and here.start <= alpha < here.stop
            )
            if here is None or is_alpha:
                out.append(list(range(count)))
            else:
                out.append(list(range(here.start // tile, (here.stop - 1) // tile + 1)))
        return out


def _assembled(part: _Part, tiles: Tiles, dtype: np.dtype[Any]) -> NDArray[Any]:
    out = np.empty([s.stop - s.start for s in part.selection], dtype)
    for cut in part.cuts:
        out[cut.into] = tiles[part.position, cut.number][cut.within]
    return out


def make_part(
    info: ArrayInfo,
    source: LevelSource,
    at: Sequence[slice],
    pixels: NDArray[Any],
    corner: tuple[int, int],
    opacity: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Make a part of an overview array.

    Parameters
    ----------
    info, source
        The array, and what it is made of.
    at
        The part, one slice per dim.
    pixels
        Of the level before, one axis per dim, at least those that the rule needs.
    corner
        Row and column of the level before where `pixels` begins.
    opacity
        The mask or alpha there, with a size of 1 along the dims that it lacks.
    """
    rule, plane = source.rule, (at[-2], at[-1])
    shape = tuple(s.stop - s.start for s in at)
    if rule.method == "nearest":
        flat = pixels.reshape(-1, *pixels.shape[-2:])
        return rule.make(flat, corner, plane).reshape(shape)
    if opacity is not None:
        opaque = np.minimum(opacity, 255).astype(np.uint8, copy=False)
        opacity = np.broadcast_to(opaque, pixels.shape)
    out = np.empty(shape, pixels.dtype)
    for bands, nodata in _bands(info, source, at):
        part = pixels[bands]
        flat = part.reshape(-1, *part.shape[-2:])
        made = np.empty((len(flat), *shape[-2:]), pixels.dtype)
        veil = None if opacity is None else opacity[bands].reshape(flat.shape)
        # Sums are of doubles: a deep tile is taken some planes at a time.
        step = max(1, PLANES_AT_ONCE // max(flat[0].size, 1))
        for k in range(0, len(flat), step):
            some = flat[k : k + step]
            if info.role == "mask":
                valid: NDArray[Any] | None = some
            elif veil is not None:
                valid = veil[k : k + step]
            else:
                valid = valid_pixels(some, nodata, info.dtype)
            made[k : k + step] = rule.make(
                some, corner, plane, valid=valid, nodata=nodata
            )
        out[bands] = made.reshape(*part.shape[:-2], *shape[-2:])
    return out


def _bands(
    info: ArrayInfo, source: LevelSource, at: Sequence[slice]
) -> Iterator[tuple[tuple[slice, ...], float | int | None]]:
    """Give the pixels that share a nodata value, as a selection, and that value."""
    if len(source.nodata) == 1:
        yield (), source.nodata[0]
        return
    axis = info.dims.index("band")
    for k in range(at[axis].stop - at[axis].start):
        yield (
            (*(slice(None),) * axis, slice(k, k + 1)),
            source.nodata[at[axis].start + k],
        )
