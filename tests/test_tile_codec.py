import contextlib
import io
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.dtypes import DTYPES, numpy_dtype
from flac_xarray.errors import CorruptTileError, FormatError, UnsupportedDataError
from flac_xarray.flac_frames import encode_samples
from flac_xarray.flac_stream import (
    Block,
    StreamInfo,
    pack_comments,
    pack_stream,
)
from flac_xarray.reader import FlacRaster
from flac_xarray.tile_codec import decode_tile, encode_tile, read_tile_header

COMMENTS = {
    "GEOSPATIAL_CRS": "EPSG:32618",
    "GEOSPATIAL_WIDTH": "256",
    "GEOSPATIAL_HEIGHT": "256",
    "GEOSPATIAL_COUNT": "1",
    "GEOSPATIAL_DTYPE": "uint16",
    "GEOSPATIAL_TRANSFORM": "[10.0,0.0,500000.0,0.0,-10.0,4600000.0]",
    "GEOSPATIAL_BOUNDS": "[500000.0,4597440.0,502560.0,4600000.0]",
}


def assert_same_bits(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def round_trip(tile, dtype=None, **options):
    dtype = dtype or tile.dtype.name
    data = encode_tile(tile, dtype=dtype, **options)
    found = decode_tile(data, shape=tile.shape, dtype=dtype, verify_md5=True)
    assert_same_bits(found, tile)
    return data


def terrain(height=200, width=180, seed=0):
    """Hills with a little noise, float64."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    hills = sum(
        300 / k * np.sin(y / 40 * k + rng.uniform(0, 6)) * np.cos(x / 50 * k)
        for k in (1, 2, 3, 5)
    )
    return 1500 + hills + rng.normal(0, 2, (height, width))


@dataclass(frozen=True)
class Scene:
    """A tile, and a transform that must be found to suit it."""

    tile: np.ndarray
    transform: str
    ratio: float
    nodata: bytes | None = None


@cache
def scenes():
    ground = terrain()
    classes = (ground // 150).astype(np.uint8)[None]
    void = np.where(ground > 1600, -9999, ground).astype(np.int16)[None]
    rng = np.random.default_rng(1)
    levels = np.sort(rng.random(300)).astype(np.float32)
    photo = (ground / 20 + rng.normal(0, 9, ground.shape)).astype(np.uint8)
    grain = rng.integers(-2, 3, (2, *photo.shape))
    sparse = np.zeros((1, 200, 180), np.int16)
    sparse[0, ::37, ::41] = 12
    nan = np.where(ground > 1600, np.nan, ground).astype(np.float32)[None]
    return {
        "terrain": Scene(ground.astype(np.int16)[None], "smooth", 2.5),
        "voids": Scene(void, "void", 2.5, np.int16(-9999).tobytes()),
        "classes": Scene(classes, "classes", 20),
        "mask": Scene(ground[None] > 1500, "classes", 20),
        "centimetres": Scene(
            (ground.round(2)).astype(np.float32)[None], "scale:i4,/100.0", 2.0
        ),
        "levels": Scene(levels[(ground / 8 % 300).astype(int)][None], "palette", 3),
        "nan": Scene(nan, "void", 1.3),
        "rgb": Scene(
            np.stack([photo, photo + grain[0], photo + grain[1]]).astype(np.uint8),
            "bands:",
            1.5,
        ),
        "sparse": Scene(sparse, "classes", 100),
        "narrow": Scene(ground.astype(np.int64)[None] + (1 << 40), "offset:u2", 9),
        "constant": Scene(np.full((1, 200, 180), 7.5, np.float32), "fill", 100),
    }


@pytest.mark.parametrize("effort", [0, 5, 9])
@pytest.mark.parametrize("name", scenes())
def test_scenes(name, effort):
    scene = scenes()[name]
    data = round_trip(scene.tile, nodata=scene.nodata, effort=effort)
    if effort == 5:
        header = read_tile_header(data)
        assert scene.transform in " ".join(header.transforms)
        assert scene.tile.nbytes / len(data) > scene.ratio


SHAPES = [(1, 1), (1, 1, 1), (1, 1, 9), (1, 9, 1), (3, 65, 33), (2, 2, 30, 17)]


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "complex_int16"])
def test_any_bits_of_any_dtype(dtype, shape, interleave):
    form = numpy_dtype(dtype)
    rng = np.random.default_rng(len(dtype))
    if dtype == "bool":
        noise = rng.integers(0, 2, shape).astype(bool)
    else:
        size = int(np.prod(shape)) * form.itemsize
        noise = np.frombuffer(rng.bytes(size), form).reshape(shape)
    steps = rng.integers(-2, 3, shape).cumsum(axis=-1).astype(form)
    steps[..., ::3, :] = steps.flat[0]
    for tile in (noise, steps, np.zeros(shape, form)):
        for nodata in (None, tile.flat[0].tobytes()):
            round_trip(tile, nodata=nodata, interleave=interleave)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_special_floats(dtype):
    form = np.dtype(dtype)
    word = np.dtype(f"u{form.itemsize}")
    info = np.finfo(form)
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, info.eps],
        form,
    )
    payloads = np.array([np.inf], form).view(word) + np.arange(1, 8, dtype=word)
    tile = np.concatenate([special, payloads.view(form), -payloads.view(form)])
    tile = np.tile(tile, 40)[None, None].reshape(1, 23, 40)
    for nodata in (None, special[4].tobytes(), special[1].tobytes()):
        round_trip(tile, nodata=nodata)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_special_complex_parts(dtype):
    parts = np.array([-0.0, np.nan, np.inf, 1.5, 0.0], numpy_dtype(dtype)).real
    tile = np.empty((1, 5, 5), dtype)
    tile.real, tile.imag = parts[:, None], parts
    round_trip(tile)
    round_trip(tile, nodata=tile[0, 1, 1].tobytes())


def test_complex_int16():
    rng = np.random.default_rng(0)
    tile = np.empty((2, 30, 20), np.complex64)
    tile.real = rng.integers(-32768, 32768, tile.shape)
    tile.imag = rng.integers(-32768, 32768, tile.shape)
    data = round_trip(tile, "complex_int16")
    assert len(data) < tile.size * 4 * 1.1
    tile[:] = 3 - 4j
    assert read_tile_header(round_trip(tile, "complex_int16")).plan.fill


@pytest.mark.parametrize("part", [0.5, -0.0, 32768, -32769, np.nan, np.inf])
def test_complex_int16_that_it_is_not(part):
    tile = np.zeros((1, 2, 2), np.complex64)
    tile.imag[0, 1, 1] = part
    with pytest.raises(UnsupportedDataError, match="integer of 16 bits"):
        encode_tile(tile, dtype="complex_int16")


@pytest.mark.parametrize(
    ("tile", "dtype"),
    [
        (np.zeros((2, 2), "U1"), "uint8"),
        (np.zeros((2, 2), "i4"), "uint32"),
        (np.zeros((2, 2), "i4"), "int31"),
        (np.zeros(4, "i4"), "int32"),
        (np.zeros((1, 0, 4), "i4"), "int32"),
    ],
)
def test_tiles_that_cannot_be_stored(tile, dtype):
    with pytest.raises(UnsupportedDataError):
        encode_tile(tile, dtype=dtype)


@pytest.mark.parametrize("options", [{"effort": 10}, {"interleave": "line"}])
def test_options_that_do_not_exist(options):
    with pytest.raises(ValueError, match="unknown"):
        encode_tile(np.zeros((2, 2), np.uint8), dtype="uint8", **options)


def test_big_endian_and_strided_tiles():
    tile = terrain().astype(np.int16)
    data = encode_tile(tile.astype(">i2")[::2, ::3], dtype="int16")
    found = decode_tile(data, shape=(100, 60), dtype="int16")
    np.testing.assert_array_equal(found, tile[::2, ::3])


def test_same_input_same_bytes():
    tile = scenes()["terrain"].tile
    assert encode_tile(tile, dtype="int16") == encode_tile(tile, dtype="int16")


def test_out_is_filled_whatever_its_layout():
    tile = scenes()["terrain"].tile
    data = encode_tile(tile, dtype="int16")
    for out in (
        np.empty(tile.shape, np.int16),
        np.empty((1, 400, 360), np.int16)[:, ::2, ::2],
        np.asfortranarray(np.empty(tile.shape, np.int16)),
    ):
        assert decode_tile(data, shape=tile.shape, dtype="int16", out=out) is out
        np.testing.assert_array_equal(out, tile)
    with pytest.raises(ValueError, match="out is"):
        decode_tile(
            data, shape=tile.shape, dtype="int16", out=np.empty(tile.shape, np.int8)
        )


def test_tiles_decode_in_threads():
    named = list(scenes().values())
    data = [encode_tile(s.tile, dtype=s.tile.dtype.name) for s in named]
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(decode_tile, d, shape=s.tile.shape, dtype=s.tile.dtype.name)
            for d, s in zip(data * 5, named * 5, strict=True)
        ]
        for job, scene in zip(jobs, named * 5, strict=True):
            assert_same_bits(job.result(), scene.tile)


def test_a_tile_says_what_it_is():
    tile = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    comments = {"GEOSPATIAL_CRS": "EPSG:4326", "GEOSPATIAL_NODATA": "0"}
    header = read_tile_header(encode_tile(tile, dtype="uint16", comments=comments))
    assert (header.shape, header.dtype) == ((2, 3, 4, 5), "uint16")
    found = dict(header.comments)
    found.pop("GEOSPATIAL_TRANSFORMS", None)
    assert found == comments | {
        "GEOSPATIAL_COUNT": "6",
        "GEOSPATIAL_HEIGHT": "4",
        "GEOSPATIAL_WIDTH": "5",
        "GEOSPATIAL_DTYPE": "uint16",
        "GEOSPATIAL_SHAPE": "2,3,4,5",
    }


def test_pixel_interleaved_planes_are_channels():
    tile = scenes()["rgb"].tile
    data = round_trip(tile, interleave="pixel")
    assert read_tile_header(data).info.channels == 3
    assert read_tile_header(round_trip(tile)).info.channels == 1


def test_overhead():
    tile = terrain(256, 256).astype(np.uint16)[None]
    data = encode_tile(tile, dtype="uint16", comments=COMMENTS)
    header = read_tile_header(data)
    assert header.frames_offset <= 0.015 * tile.nbytes
    constant = encode_tile(np.full_like(tile, 9), dtype="uint16", comments=COMMENTS)
    assert len(constant) <= 600


def test_hand_written_tile():
    """A stream put together without the encoder under test."""
    residual = np.array([10, 20, 10, 0, -1, 1, 1, 3, -2, 2], np.int16)
    info, frames = encode_samples(residual, 16)
    comments = {
        "GEOSPATIAL_DTYPE": "int16",
        "GEOSPATIAL_COUNT": "1",
        "GEOSPATIAL_HEIGHT": "5",
        "GEOSPATIAL_WIDTH": "2",
        "GEOSPATIAL_TRANSFORMS": "lift",
    }
    stream = pack_stream(info, [pack_comments(comments)], frames)
    # Row 0, row 4 from row 0, row 2 from 0 and 4, row 1 from 0 and 2, row 3.
    expected = [[10, 20], [13, 23], [14, 21], [15, 22], [20, 20]]
    assert decode_tile(stream, shape=(1, 5, 2), dtype="int16").tolist() == [expected]


FLAC = shutil.which("flac")
needs_flac = pytest.mark.skipif(
    FLAC is None, reason="the flac command is not installed"
)


@needs_flac
@pytest.mark.parametrize("name", scenes())
def test_the_reference_decoder_accepts_every_tile(name, tmp_path):
    scene = scenes()[name]
    path = tmp_path / "tile.flac"
    dtype = scene.tile.dtype.name
    path.write_bytes(encode_tile(scene.tile, dtype=dtype, nodata=scene.nodata))
    subprocess.run([FLAC, "-t", "-s", "-w", path], check=True)


def test_soundfile_reads_the_pixels_of_a_plain_tile():
    soundfile = pytest.importorskip("soundfile")
    # A row has nothing above, so its pixels are the samples.
    tile = np.array([[3, 1, 4, 1, 5, -9, 2, 6, 700, -30000]], np.int16)
    data = round_trip(tile)
    found, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    assert found.tolist() == tile[0].tolist()


# --- bad bytes


def test_another_tile_than_expected():
    data = encode_tile(np.zeros((1, 4, 6), np.uint8), dtype="uint8")
    for shape, dtype in (((1, 6, 4), "uint8"), ((4, 6), "uint8"), ((1, 4, 6), "int8")):
        with pytest.raises(CorruptTileError, match="expected"):
            decode_tile(data, shape=shape, dtype=dtype)


@pytest.mark.parametrize(
    "changes",
    [
        {"GEOSPATIAL_WIDTH": "-1"},
        {"GEOSPATIAL_WIDTH": "0"},
        {"GEOSPATIAL_WIDTH": "9999999999"},
        {"GEOSPATIAL_SHAPE": "1"},
        {"GEOSPATIAL_SHAPE": "a,b"},
        {"GEOSPATIAL_DTYPE": "float8"},
        {"GEOSPATIAL_TRANSFORMS": "fill:00"},
        {"GEOSPATIAL_TRANSFORMS": "newer"},
        {"GEOSPATIAL_TRANSFORMS": "sparse"},
        {"GEOSPATIAL_TRANSFORMS": "void:00"},
        {"GEOSPATIAL_TRANSFORMS": "palette:u1"},
        {"GEOSPATIAL_TRANSFORMS": "bands:-,0"},
        {"GEOSPATIAL_TRANSFORMS": "classes"},
        {"GEOSPATIAL_TRANSFORMS": "packed"},
        {"GEOSPATIAL_TRANSFORMS": "sparse pixel"},
    ],
    ids=str,
)
def test_comments_that_lie(changes):
    tile = np.arange(24, dtype=np.int16).reshape(1, 4, 6)
    info, frames = encode_samples(tile.reshape(-1), 16)
    comments = {
        "GEOSPATIAL_DTYPE": "int16",
        "GEOSPATIAL_COUNT": "1",
        "GEOSPATIAL_HEIGHT": "4",
        "GEOSPATIAL_WIDTH": "6",
    }
    honest = pack_stream(info, [pack_comments(comments)], frames)
    assert decode_tile(honest, shape=(1, 4, 6), dtype="int16").tolist() == tile.tolist()
    lying = pack_stream(info, [pack_comments(comments | changes)], frames)
    with pytest.raises(FormatError):
        decode_tile(lying, shape=(1, 4, 6), dtype="int16")


def test_bool_tile_with_other_values():
    info, frames = encode_samples(np.array([0, 1, 2], np.int16), 8)
    sizes = {"COUNT": "1", "HEIGHT": "1", "WIDTH": "3", "DTYPE": "bool"}
    comments = {f"GEOSPATIAL_{name}": text for name, text in sizes.items()}
    stream = pack_stream(info, [pack_comments(comments)], frames)
    with pytest.raises(CorruptTileError, match="bool"):
        decode_tile(stream, shape=(1, 1, 3), dtype="bool")


def test_plain_music_is_no_tile():
    info = StreamInfo(4096, 4096, 0, 0, 44100, 2, 16, 1000, bytes(16))
    music = pack_stream(info, [Block(4, pack_comments({"TITLE": "x"}).payload)], b"")
    with pytest.raises(FormatError, match="no tile"):
        read_tile_header(music)


def test_changed_md5_is_found_when_asked():
    tile = np.arange(24, dtype=np.int16).reshape(1, 4, 6)
    data = bytearray(encode_tile(tile, dtype="int16"))
    data[8 + 18] ^= 1
    assert_same_bits(decode_tile(bytes(data), shape=tile.shape, dtype="int16"), tile)
    with pytest.raises(CorruptTileError, match="MD5"):
        decode_tile(bytes(data), shape=tile.shape, dtype="int16", verify_md5=True)


@cache
def small_streams():
    tiles = [scenes()[n].tile[:, :40, :30] for n in ("voids", "classes", "levels")]
    tiles += [scenes()[n].tile[:, :40, :30] for n in ("rgb", "nan", "sparse")]
    return [
        (encode_tile(t, dtype=t.dtype.name, nodata=t.flat[0].tobytes()), t)
        for t in tiles
    ]


@given(
    st.integers(0, 5),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    st.floats(0, 1),
)
def test_damaged_streams_yield_pixels_or_format_error(which, changes, length):
    data, tile = small_streams()[which]
    broken = bytearray(data)
    for at, byte in changes:
        broken[int(at * (len(broken) - 1))] = byte
    for stream in (bytes(broken), data[: int(length * len(data))]):
        try:
            found = decode_tile(stream, shape=tile.shape, dtype=tile.dtype.name)
        except FormatError:
            continue
        assert (found.shape, found.dtype) == (tile.shape, tile.dtype)


@given(st.binary(max_size=300))
def test_any_bytes_yield_a_header_or_format_error(data):
    for stream in (data, b"fLaC\x00\x00\x00\x22" + data):
        with contextlib.suppress(FormatError):
            read_tile_header(stream)


# --- real rasters


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        ("dem-raw.tif", 2.9),
        ("lc-prodes-3543x3431-u8.tif", 12),
        ("dem-merit-rhine-f32.tif", 3.9),
    ],
)
def test_real_rasters(real_data, name, ratio):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(real_data / name) as dataset:
        tile = dataset.read(window=((300, 812), (200, 712)))
    data = round_trip(tile, comments=COMMENTS)
    assert tile.nbytes / len(data) > ratio


@pytest.mark.parametrize("dtype", ["int32", "int64", "float64"])
def test_a_tile_of_noise_is_a_dataset_of_its_own(dtype):
    # No transform helps noise: the stream must say so, or it is taken for another's.
    noise = np.random.default_rng(0).bytes(64 * 64 * np.dtype(dtype).itemsize)
    tile = np.frombuffer(noise, dtype).reshape(1, 64, 64)
    data = encode_tile(tile, dtype=dtype)
    with FlacRaster.open(data) as raster:
        assert_same_bits(raster.read(), tile)
