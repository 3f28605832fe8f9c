"""Selections against NumPy's indexing, and the tiles they touch against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.grid import TileGrid
from flac_xarray.selection import Selection

SHAPE, TILE = (3, 7, 10), (2, 3, 4)
PIXELS = np.arange(np.prod(SHAPE)).reshape(SHAPE)


def gather(selection: Selection) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Assemble a selection from tiles cut out of PIXELS."""
    grid = TileGrid(SHAPE, TILE)
    out = np.full(selection.flat_shape, -1)
    seen = []
    for piece in selection.pieces(grid):
        tile = PIXELS[grid.slices(piece.index)].transpose(selection.order)
        out[piece.put] = tile[piece.take]
        seen.append(piece.index)
    return selection.finish(out), seen


def slices(n: int) -> st.SearchStrategy[slice]:
    ends = st.none() | st.integers(-n - 2, n + 2)
    steps = st.none() | st.integers(-4, 4).filter(bool)
    return st.builds(slice, ends, ends, steps)


def entries(n: int) -> st.SearchStrategy:
    positions = st.lists(st.integers(-n, n - 1), max_size=8)
    return st.one_of(
        st.integers(-n, n - 1),
        slices(n),
        positions.map(lambda p: np.array(p, int)),
        st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),
    )


def orthogonal(key) -> np.ndarray:
    """Index axis by axis, as xarray's basic and outer indexing do."""
    out = PIXELS
    for axis in reversed(range(3)):
        out = out[(slice(None),) * axis + (key[axis],)]
    return out


def touched(key) -> set[tuple[int, ...]]:
    """Tiles that hold a selected pixel, by looking at every pixel."""
    chosen = np.isin(PIXELS, orthogonal(key))
    return {tuple(int(v) for v in i // TILE) for i in np.argwhere(chosen)}


@given(st.tuples(*(entries(n) for n in SHAPE)))
def test_each_axis_on_its_own(key):
    got, seen = gather(Selection.basic(key, SHAPE))
    np.testing.assert_array_equal(got, orthogonal(key))
    assert len(seen) == len(set(seen))
    assert set(seen) == touched(key)


@st.composite
def point_keys(draw):
    size = draw(st.sampled_from([(0,), (1,), (5,), (2, 3)]))
    which = draw(st.sets(st.sampled_from([0, 1, 2]), min_size=1))
    key = []
    for axis, n in enumerate(SHAPE):
        if axis in which:
            count = int(np.prod(size))
            flat = draw(
                st.lists(st.integers(-n, n - 1), min_size=count, max_size=count)
            )
            key.append(np.array(flat, int).reshape(size))
        else:
            key.append(draw(slices(n)))
    return tuple(key)


def vindex(key) -> np.ndarray:
    """Index with points, the points' dims where the first array stands."""
    order = [k for k in range(3) if not isinstance(key[k], slice)]
    spans = [k for k in range(3) if k not in order]
    moved = PIXELS.transpose(order + spans)
    for at, k in enumerate(spans):
        axis = len(order) + at
        moved = moved[(slice(None),) * axis + (key[k],)]
    taken = moved[tuple(key[k] for k in order)]
    points_ndim = key[order[0]].ndim
    to = sum(k < order[0] for k in spans)
    return np.moveaxis(taken, range(points_ndim), range(to, to + points_ndim))


@given(point_keys())
def test_points_along_several_axes(key):
    got, seen = gather(Selection.vectorized(key, SHAPE))
    expected = vindex(key)
    np.testing.assert_array_equal(got, expected)
    assert got.shape == expected.shape
    chosen = np.argwhere(np.isin(PIXELS, expected))
    assert sorted(seen) == sorted({tuple(int(v) for v in i // TILE) for i in chosen})


@given(st.one_of(st.tuples(*(entries(n) for n in SHAPE)), point_keys()))
def test_values_along_an_axis_meet_their_pixels(key):
    is_points = any(np.ndim(k) and np.asarray(k).dtype == int for k in key)
    make = Selection.vectorized if is_points and _broadcasts(key) else Selection.basic
    selection = make(key, SHAPE)
    for axis, n in enumerate(SHAPE):
        values = np.arange(n) * 10
        whole = np.broadcast_to(np.moveaxis(values[:, None, None], 0, axis), SHAPE)
        grid = TileGrid(SHAPE, TILE)
        expected = np.zeros(selection.flat_shape, int)
        for piece in selection.pieces(grid):
            tile = whole[grid.slices(piece.index)].transpose(selection.order)
            expected[piece.put] = tile[piece.take]
        got = np.broadcast_to(selection.along(axis, values), selection.flat_shape)
        np.testing.assert_array_equal(got, expected)


def _broadcasts(key) -> bool:
    arrays = [k for k in key if not isinstance(k, slice)]
    same = {np.shape(k) for k in arrays}
    return len(same) == 1 and all(np.asarray(k).dtype != bool for k in arrays)


def test_a_block_is_known_as_one():
    key = (slice(None), slice(2, 5), 3)
    block = Selection.basic(key, SHAPE).block()
    assert block == (slice(0, 3), slice(2, 5), slice(3, 4))
    assert Selection.basic((slice(None, None, 2), 0, 0), SHAPE).block() is None


@pytest.mark.parametrize("bad", [7, -8, np.array([0, 7]), np.array([True, False])])
def test_out_of_range_is_an_index_error(bad):
    with pytest.raises(IndexError):
        Selection.basic((0, bad, 0), SHAPE)
