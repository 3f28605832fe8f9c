"""The coder of class maps against a second one, written from docs/format.md 4.10."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flac_xarray import _classes
from flac_xarray.errors import CorruptTileError
from flac_xarray.tile_codec import decode_tile, encode_tile, read_tile_header
from flac_xarray.transforms.classes import class_bits, pack_classes, take_classes
from flac_xarray.transforms.side import SideReader, pack_piece, store_piece

PIECE = 32


class SlowDecoder:
    """Section 4.10, sentence by sentence."""

    def __init__(self, data, bits):
        self.data = iter(data)
        self.bits = bits
        self.low, self.high, self.code = 0, (1 << 32) - 1, 0
        for _ in range(4):
            self.code = self.code << 8 | next(self.data, 0)
        self.states = {}

    def decide(self, *name):
        one, seen = self.states.get(name, (32768, 0))
        middle = self.low + (self.high - self.low) * one // 65536
        bit = self.code <= middle
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        step = 131072 // (2 * seen + 3)
        one += (65536 - one) * step // 65536 if bit else -(one * step // 65536)
        self.states[name] = min(max(one, 32), 65504), min(seen + 1, 64)
        while self.low >> 24 == self.high >> 24:
            self.low = self.low << 8 & 0xFFFFFFFF
            self.high = (self.high << 8 & 0xFFFFFFFF) + 255
            self.code = (self.code << 8 & 0xFFFFFFFF) + next(self.data, 0)
        return bit

    def plane(self, last, height, width):
        x = np.zeros((height, width), int)
        above = [False] * -(-width // PIECE)
        above_same = above.copy()
        for row in range(height):
            before = same = False
            for number, start in enumerate(range(0, width, PIECE)):
                stop = min(start + PIECE, width)
                if last is not None:
                    same = self.decide("same", (same, above_same[number]))
                    above_same[number] = same
                    if same:
                        x[row, start:stop] = last[row, start:stop]
                        before = above[number] = False
                        continue
                even = left = right = True
                if row:
                    around = x[row - 1, max(start - 1, 0) : min(stop + 1, width)]
                    even = len(set(around)) == 1
                    if start:
                        left = x[row, start - 1] == x[row - 1, start - 1]
                        right = x[row, start - 1] == x[row - 1, start]
                known = (before, above[number], even, left, right)
                pattern = (last is not None, *map(bool, known))
                before = above[number] = self.decide("piece", pattern)
                if before and row:
                    x[row, start:stop] = x[row - 1, start:stop]
                elif before:
                    x[row, start:stop] = x[row, start - 1] if start else 0
                else:
                    for col in range(start, stop):
                        x[row, col] = self.pixel(x, last, row, col)
        return x

    def pixel(self, x, last, row, col):
        def at(up, left, otherwise):
            r, c = row - up, col - left
            inside = r >= 0 and 0 <= c < x.shape[1]
            return x[r, c] if inside else otherwise

        w = at(0, 1, at(1, 0, 0))
        n = at(1, 0, w)
        nw, ne, ww, nn = at(1, 1, n), at(1, -1, n), at(0, 2, w), at(2, 0, n)
        nee, nww, nne = at(1, -2, ne), at(1, 2, nw), at(2, -1, nn)
        questions = [
            (w, [n == w, nw == w, ne == w, ww == w, ne == n, nw == n, nn == n]),
            (n, [nw == w, nw == n, ne == n, nn == n, nne == ne, ww == w, nee == ne]),
            (ne, [n == w, nw == n, nee == ne, nw == w, nne == ne]),
            (nw, [n == w, ne == n, ww == nw]),
            (ww, [n == w, ne == n]),
            (nn, [n == w, ne == n]),
        ]
        questions[0][1].extend([nee == ne, nww == nw])
        questions[1][1].append(ww == n)
        like = 0
        if last is not None:
            p = last[row, col]
            like = 1 if p == w else 2 if p == n else 3
            if like == 3:
                pattern = [nw == p, ne == p, ww == p, nn == p]
                questions.insert(2, (p, pattern))
        asked = set()
        for number, (value, pattern) in enumerate(questions):
            if value in asked:
                continue
            asked.add(value)
            name = (number, like) if number < 2 else len(questions) - number
            if self.decide("pixel", name, tuple(map(bool, pattern))):
                return value
        string = ""
        for _ in range(self.bits):
            string += str(int(self.decide("value", int(w), string)))
        return int(string, 2)


def slow_decode(data, shape, bits):
    decoder, planes = SlowDecoder(data, bits), [None]
    for _ in range(shape[0]):
        planes.append(decoder.plane(planes[-1], *shape[1:]))
    return np.array(planes[1:], np.uint8)


def blobs(shape, count, seed):
    """Patches of classes with ragged edges."""
    rng = np.random.default_rng(seed)
    planes, height, width = shape
    y, x = np.mgrid[:height, :width]
    centres = rng.uniform(0, 1, (planes, 12, 2)) * [height, width]
    out = np.empty(shape, np.uint8)
    for plane in range(planes):
        far = [np.hypot(y - cy, x - cx) for cy, cx in centres[plane]]
        far = np.array(far) + rng.normal(0, 1.5, (12, height, width))
        out[plane] = far.argmin(axis=0) % count
    return out


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 97), (3, 21, 64), (2, 5, 33)])
@pytest.mark.parametrize("count", [1, 2, 7, 256])
@pytest.mark.parametrize("kind", ["blobs", "noise", "stripes", "rows", "planes"])
def test_a_decoder_written_from_the_specification_agrees(kind, count, shape):
    rng = np.random.default_rng(count)
    if kind == "blobs":
        values = blobs(shape, count, 3)
    else:
        values = rng.integers(0, count, shape, np.uint8)
        if kind == "stripes":
            values[:] = values[:, :, :1]
        if kind == "rows":
            values[:] = values[:, :1]
        if kind == "planes":
            values[:] = np.where(rng.random(shape) < 0.1, values, values[:1])
    bits = class_bits(values)
    data = _classes.encode(values, bits)
    found = np.empty_like(values)
    _classes.decode(data, found, bits)
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(slow_decode(data, shape, bits), values)


@settings(deadline=None)
@given(
    values=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=70),
        elements=st.integers(0, 5),
    )
)
def test_any_map_comes_back(values):
    data = _classes.encode(values, 3)
    found = np.empty_like(values)
    _classes.decode(data, found, 3)
    np.testing.assert_array_equal(found, values)


@settings(deadline=None)
@given(data=st.binary(max_size=200), bits=st.integers(1, 8))
def test_any_bytes_are_some_map(data, bits):
    shape = (2, 9, 40)
    found = np.empty(shape, np.uint8)
    _classes.decode(data, found, bits)
    assert found.max() < 1 << bits
    np.testing.assert_array_equal(slow_decode(data, shape, bits), found)


def test_the_coder_is_told_how_many_bits():
    with pytest.raises(ValueError, match="more than 2 bits"):
        _classes.encode(np.full((1, 2, 2), 4, np.uint8), 2)
    with pytest.raises(ValueError, match="expected bytes"):
        _classes.encode(np.zeros((1, 2, 2), np.int16), 2)
    with pytest.raises(ValueError, match="expected bytes"):
        _classes.encode(np.zeros((1, 2, 2), np.uint8), 9)


def test_a_piece_that_is_too_long_is_refused():
    reader = SideReader(store_piece(bytes(1000)))
    with pytest.raises(CorruptTileError, match="expected 0 to"):
        take_classes(reader, 2, np.empty((1, 4, 4), "i1"))
    reader = SideReader(pack_classes(np.zeros((1, 4, 4), np.uint8), 1))
    with pytest.raises(CorruptTileError, match="expected bytes"):
        take_classes(reader, 1, np.empty((1, 4, 4), "i2"))


def test_a_piece_that_is_compressed_is_refused():
    # A few bytes would unpack to twice the tile.
    reader = SideReader(pack_piece(bytes(1000)))
    with pytest.raises(CorruptTileError, match="must be stored"):
        take_classes(reader, 2, np.empty((1, 40, 40), "i1"))


def test_a_map_of_classes_is_a_fraction_of_its_runs():
    values = blobs((1, 256, 256), 9, 1)
    data = encode_tile(values, dtype="uint8")
    assert read_tile_header(data).plan.classes == 4
    # Runs of this noise at the edges: one in 4 pixels there; LZMA is no better.
    import lzma

    assert read_tile_header(data).side_nbytes < 0.75 * len(lzma.compress(values))
    found = decode_tile(data, shape=values.shape, dtype="uint8")
    np.testing.assert_array_equal(found, values)
