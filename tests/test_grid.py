"""Tile arithmetic against brute force over pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.errors import FormatError, WindowError
from flac_xarray.grid import TileGrid, Window

SIDES = st.integers(0, 9)


@st.composite
def grids(draw, min_dims=1) -> TileGrid:
    shape = draw(st.lists(SIDES, min_size=min_dims, max_size=4))
    tile = [draw(st.integers(1, 5)) for _ in shape]
    return TileGrid(tuple(shape), tuple(tile))


@st.composite
def selections(draw):
    grid = draw(grids())
    cut = []
    for n in grid.shape:
        start = draw(st.integers(0, n))
        cut.append(slice(start, draw(st.integers(start, n))))
    return grid, tuple(cut)


def tile_of_each_pixel(grid: TileGrid) -> np.ndarray:
    """Number of the tile that every pixel lies in, by dividing each index."""
    numbers = np.zeros(grid.shape, int)
    counts = [len(range(0, n, t)) for n, t in zip(grid.shape, grid.tile, strict=True)]
    for pixel in itertools.product(*map(range, grid.shape)):
        index = [p // t for p, t in zip(pixel, grid.tile, strict=True)]
        numbers[pixel] = np.ravel_multi_index(index, counts)
    return numbers


@given(grids())
def test_tiles_cover_every_pixel_once(grid):
    seen = np.full(grid.shape, -1)
    for number in range(grid.n_tiles):
        index = grid.index(number)
        assert grid.number(index) == number
        part = seen[grid.slices(index)]
        assert (part == -1).all()
        assert part.shape == grid.tile_shape(index)
        seen[grid.slices(index)] = number
    np.testing.assert_array_equal(seen, tile_of_each_pixel(grid))


@given(selections())
def test_cuts_are_the_tiles_a_selection_touches(case):
    grid, selection = case
    numbers = tile_of_each_pixel(grid)
    pixels = np.arange(numbers.size).reshape(grid.shape)
    expected = pixels[selection]
    cuts = list(grid.cuts(selection))
    assert [c.number for c in cuts] == np.unique(numbers[selection]).tolist()
    found = np.full(expected.shape, -1)
    for cut in cuts:
        assert grid.number(cut.index) == cut.number
        assert (found[cut.into] == -1).all()
        found[cut.into] = pixels[grid.slices(cut.index)][cut.within]
    np.testing.assert_array_equal(found, expected)


@given(grids(min_dims=2), st.integers(0, 400))
def test_blocks_cover_every_pixel_once_in_whole_tiles(grid, n_pixels):
    seen = np.zeros(grid.shape, int)
    one_tile = np.prod([min(n, t) for n, t in zip(grid.shape, grid.tile, strict=True)])
    for block in grid.blocks(n_pixels):
        seen[block] += 1
        assert seen[block].size <= max(n_pixels, one_tile)
        for s, n, t in zip(block, grid.shape, grid.tile, strict=True):
            assert s.start % t == 0
            assert s.stop % t == 0 or s.stop == n
    assert (seen == 1).all()


@given(*[SIDES] * 6)
def test_intersection_is_the_pixels_in_both(row, col, height, width, rows, cols):
    inside = np.zeros((20, 20), bool)
    inside[row : row + height, col : col + width] = True
    inside[rows:] = False
    inside[:, cols:] = False
    found = Window(row, col, height, width).intersection(rows, cols)
    again = np.zeros_like(inside)
    if found is not None:
        again[found.slices] = True
        assert found.height * found.width == inside.sum()
    np.testing.assert_array_equal(again, inside)


def test_what_is_refused():
    grid = TileGrid((5, 7), (2, 3))
    for index in ((3, 0), (0, 3), (-1, 0), (0,), (0, 0, 0)):
        with pytest.raises(WindowError, match="no tile"):
            grid.number(index)
    for number in (-1, 9):
        with pytest.raises(WindowError, match="tiles 0 to 8"):
            grid.index(number)
    for shape, tile in (((5,), (2, 3)), ((-1,), (2,)), ((5,), (0,))):
        with pytest.raises(FormatError):
            TileGrid(shape, tile)
    with pytest.raises(WindowError, match="negative"):
        Window(0, -1, 1, 1)
