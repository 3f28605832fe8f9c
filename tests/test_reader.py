"""Reading against NumPy slicing, with the bytes and requests counted."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray import (
    ArrayInfo,
    CorruptTileError,
    FlacRaster,
    FlacRasterWriter,
    FormatError,
    Header,
    SourceError,
    Window,
    WindowError,
    encode_array,
    write_array,
)
from flac_xarray.errors import (
    ArrayNotFoundError,
    NotFlacRasterError,
    TruncatedError,
)
from flac_xarray.sinks import MemorySink

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 4000, (3, 61, 83)).astype("uint16")
PIXELS[:, :16, 16:32] = 0
FILE = encode_array(
    PIXELS, tile_size=16, crs="EPSG:32633", transform=(10, 0, 5e5, 0, -10, 4e6)
)


def bounds(n: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, n), st.integers(0, n)).map(
        lambda p: tuple(sorted(p))
    )


@given(bounds(3), bounds(61), bounds(83), st.sampled_from([1, 3]))
def test_any_block_equals_numpy_s(bands, rows, cols, threads):
    block = tuple(slice(*pair) for pair in (bands, rows, cols))
    with FlacRaster.open(FILE) as raster:
        found = raster.read_selection(block, threads=threads)
    np.testing.assert_array_equal(found, PIXELS[block])
    assert found.dtype == PIXELS.dtype


@given(st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_any_list_of_bands_equals_numpy_s(bands):
    with FlacRaster.open(FILE) as raster:
        found = raster.read(Window(10, 20, 30, 40), bands=bands)
    np.testing.assert_array_equal(found, PIXELS[bands, 10:40, 20:60])


DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip


def awkward(dtype: str) -> np.ndarray:
    """Noise of every bit pattern the dtype has, NaN payloads included."""
    size = np.dtype(dtype).itemsize
    if dtype == "bool":
        return RNG.integers(0, 2, (2, 20, 30)).astype(bool)
    return RNG.integers(0, 256, (2, 20, 30, size), dtype=np.uint8).view(dtype)[..., 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 20, 30), (1, 1, 1), (1, 1, 30), (2, 20, 1)])
def test_every_dtype_and_shape_comes_back_bit_for_bit(dtype, shape):
    pixels = awkward(dtype)[tuple(slice(n) for n in shape)]
    with FlacRaster.open(encode_array(pixels, tile_size=16)) as raster:
        found = raster.read()
    assert (found.dtype, found.shape) == (pixels.dtype, shape)
    assert found.tobytes() == pixels.tobytes()


def test_big_endian_input_is_stored_by_value():
    pixels = np.arange(12, dtype=">i4").reshape(3, 4)
    with FlacRaster.open(encode_array(pixels)) as raster:
        np.testing.assert_array_equal(raster.read(), pixels)


def test_a_plan_says_what_will_be_read():
    with FlacRaster.open(FILE) as raster:
        plan = raster.plan((slice(1, 2), slice(0, 17), slice(15, 33)))
    assert [cut.index for cut in plan.cuts] == [
        (1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 1, 0), (1, 1, 1), (1, 1, 2),
    ]  # fmt: skip
    assert plan.entries[1].nbytes == 0  # the empty tile
    assert plan.tile_nbytes == sum(e.nbytes for e in plan.entries) > 0


class Recording:
    """A binary file that records what is read from it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.reads = data, 0, []

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset if whence == 0 else len(self.data) + offset
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, n: int = -1) -> bytes:
        stop = len(self.data) if n < 0 else min(len(self.data), self.at + n)
        self.reads.append((self.at, stop))
        out, self.at = self.data[self.at : stop], stop
        return out


def test_only_the_tiles_that_a_window_touches_are_read():
    pixels = RNG.integers(0, 60000, (1, 640, 640)).astype("uint16")
    file = Recording(encode_array(pixels, tile_size=64))
    raster = FlacRaster.open(file, prefetch=8192)
    assert all(stop <= 8192 for _, stop in file.reads)
    file.reads.clear()
    np.testing.assert_array_equal(
        raster.read(Window(130, 70, 50, 100)), pixels[:, 130:180, 70:170]
    )
    plan = raster.plan((slice(0, 1), slice(130, 180), slice(70, 170)))
    assert {cut.index for cut in plan.cuts} == {(0, 2, 1), (0, 2, 2)}
    assert sum(stop - start for start, stop in file.reads) == plan.tile_nbytes


def test_header_beyond_the_prefetch_takes_one_more_read():
    file = Recording(FILE)
    FlacRaster.open(file, prefetch=100)
    assert len(file.reads) <= 4  # prefix, then header and table: no byte twice
    covered = sorted(file.reads)
    assert all(a[1] <= b[0] for a, b in pairwise(covered))


def test_threads_share_one_raster():
    with FlacRaster.open(FILE) as raster, ThreadPoolExecutor(8) as pool:
        windows = [
            Window(r, c, 13, 17) for r in range(0, 40, 3) for c in range(0, 60, 7)
        ]
        found = pool.map(raster.read, windows)
        for window, pixels in zip(windows, found, strict=True):
            np.testing.assert_array_equal(pixels, PIXELS[(slice(None), *window.slices)])


def test_a_raster_pickles_as_its_source(tmp_path):
    write_array(tmp_path / "a.flac", PIXELS, tile_size=16)
    with FlacRaster.open(tmp_path / "a.flac") as raster:
        state = pickle.dumps(raster)
        assert len(state) < 1024
        with pickle.loads(state) as again:
            np.testing.assert_array_equal(again.read(), PIXELS)


def test_bbox_to_window_and_outside():
    with FlacRaster.open(FILE) as raster:
        assert raster.bounds() == (5e5, 4e6 - 610, 5e5 + 830, 4e6)
        box = (5e5 + 95, 4e6 - 205, 5e5 + 121, 4e6 - 195)
        assert raster.window(box) == Window(19, 9, 2, 4)
        with pytest.raises(WindowError, match=r"500000\.0"):
            raster.window((0, 0, 1, 1))
        with pytest.raises(WindowError, match="outside"):
            raster.read(Window(50, 0, 20, 5))


def test_every_truncation_is_an_error():
    for cut in range(0, len(FILE), 97):
        with (
            pytest.raises((FormatError, SourceError)),
            FlacRaster.open(FILE[:cut]) as r,
        ):
            r.read()


def test_every_flipped_byte_is_found_or_harmless():
    small = encode_array(PIXELS[:1, :20, :20], tile_size=16, crs="EPSG:32633")
    expected = PIXELS[:1, :20, :20].tobytes()
    for at in range(len(small)):
        damaged = bytearray(small)
        damaged[at] ^= 1 << at % 8
        try:
            with FlacRaster.open(bytes(damaged)) as raster:
                found, crs = raster.read().tobytes(), raster.georef.crs
        except (FormatError, SourceError):
            continue
        assert (found, crs) == (expected, "EPSG:32633"), at


def test_a_damaged_tile_names_itself():
    with FlacRaster.open(FILE) as raster:
        (entry,) = raster.index.lookup(0, [2])
    damaged = bytearray(FILE)
    damaged[entry.offset + entry.nbytes // 2] ^= 1
    with FlacRaster.open(bytes(damaged)) as raster:
        with pytest.raises(CorruptTileError, match=r"tile \(0, 0, 2\)") as error:
            raster.read()
        assert (error.value.tile, error.value.offset) == ((0, 0, 2), entry.offset)
        np.testing.assert_array_equal(
            raster.read(Window(16, 0, 16, 32)), PIXELS[:, 16:32, :32]
        )


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(100), b"II*\0" + bytes(9999)])
def test_other_files_are_refused(data):
    with pytest.raises((NotFlacRasterError, TruncatedError)):
        FlacRaster.open(data)


def test_several_arrays_of_other_shapes_and_dtypes():
    header = Header(
        (
            ArrayInfo("t", "float32", ("time", "y", "x"), (4, 20, 30), (2, 16, 16)),
            ArrayInfo("q", "uint8", ("y", "x"), (20, 30), (16, 16)),
            ArrayInfo(
                "t", "float32", ("time", "y", "x"), (4, 10, 15), (2, 16, 16), level=1
            ),
        )
    )
    arrays = [RNG.normal(size=a.shape).astype(a.dtype) for a in header.arrays]
    sink = MemorySink()
    with FlacRasterWriter(sink, header) as writer:
        for k in (2, 0, 1):  # any order
            writer.write(arrays[k], position=k)
    with FlacRaster.open(sink.value) as raster:
        np.testing.assert_array_equal(raster.read(name="t"), arrays[0])
        np.testing.assert_array_equal(raster.read(name="q"), arrays[1])
        np.testing.assert_array_equal(raster.read(level=1), arrays[2])
        with pytest.raises(KeyError, match="level 7"):
            raster.read(level=7)
        with pytest.raises(ArrayNotFoundError) as error:
            raster.read(name="z")
        have = "'q', 't', 't' at level 1"
        assert str(error.value) == f"no array 'z' at level 0: the file has {have}"
        assert error.value.arrays == (("q", 0), ("t", 0), ("t", 1))
        again = pickle.loads(pickle.dumps(error.value))
        assert (str(again), again.name) == (str(error.value), "z")


def test_a_large_table_is_read_by_pages(monkeypatch):
    from flac_xarray import tile_index

    pixels = RNG.integers(1, 255, (1, 300, 300)).astype("uint8")
    file = Recording(encode_array(pixels, tile_size=4))
    monkeypatch.setattr(tile_index, "WHOLE_TABLES_NBYTES", 1000)
    monkeypatch.setattr(tile_index, "PAGE_ROWS", 64)
    raster = FlacRaster.open(file, prefetch=600)
    file.reads.clear()
    np.testing.assert_array_equal(
        raster.read(Window(100, 200, 5, 3)), pixels[:, 100:105, 200:203]
    )
    assert sum(stop - start for start, stop in file.reads) < 8192


def test_decoded_tiles_are_kept_and_bounded():
    file = Recording(FILE)
    raster = FlacRaster.open(file, prefetch=4096, cache_nbytes=20_000)
    window = Window(16, 32, 16, 16)
    expected = PIXELS[:, 16:32, 32:48]
    for _ in range(3):
        np.testing.assert_array_equal(raster.read(window), expected)
    reads = len(file.reads)
    np.testing.assert_array_equal(raster.read(window), expected)
    assert len(file.reads) == reads
    stats = raster.stats
    assert (stats.cache_hits, stats.cache_misses) == (9, 3)
    assert stats.cache_nbytes == 3 * 16 * 16 * 2
    for row in range(0, 60, 5):  # more tiles than fit
        rows = Window(row, 0, 1, 83)
        np.testing.assert_array_equal(raster.read(rows), PIXELS[:, row : row + 1])
    assert raster.stats.cache_nbytes <= 20_000
    before = raster.stats
    np.testing.assert_array_equal(raster.read(), PIXELS)  # too large for the cache
    assert raster.stats.cache_hits == before.cache_hits


def test_a_result_does_not_share_memory_with_the_cache():
    with FlacRaster.open(FILE) as raster:
        raster.read(Window(0, 0, 16, 16))[...] = 0
        np.testing.assert_array_equal(
            raster.read(Window(0, 0, 16, 16)), PIXELS[:, :16, :16]
        )


def test_without_a_cache_nothing_is_kept():
    with FlacRaster.open(FILE, cache_nbytes=0) as raster:
        raster.read(Window(0, 0, 16, 16))
        stats = raster.stats
    assert (stats.cache_hits, stats.cache_misses, stats.cache_nbytes) == (0, 0, 0)
