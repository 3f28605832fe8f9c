"""What decoding a tile takes: the pixels twice, and what the file itself unpacks to."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flac_xarray.errors import CorruptTileError
from flac_xarray.flac_frames import encode_samples
from flac_xarray.flac_stream import pack_application, pack_comments, pack_stream
from flac_xarray.tile_codec import decode_tile
from flac_xarray.transforms.masks import pack_mask
from flac_xarray.transforms.plan import Plan
from flac_xarray.transforms.side import pack_piece
from tests.fuzz.files import unpack_pieces
from tests.fuzz.seeds import encode_with

N = 768
SHAPE = (1, N, N)
FIXED = 1 << 20
"""Blocks of pixels that are worked on, whatever the tile."""
LZMA = 2
INTS = ("uint8", "int16", "int32", "int64")


def noise(dtype, levels=None, shape=SHAPE):
    rng = np.random.default_rng(1)
    if levels is not None:
        return rng.integers(0, levels, shape).astype(dtype)
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return rng.integers(0, 256, nbytes, np.uint8).view(dtype).reshape(shape)


def alternating(dtype):
    """No two neighbours are the same: every run has length 1."""
    return np.tile(np.array([0, 7], dtype), N * N // 2).reshape(SHAPE)


def sparse(dtype):
    out = np.zeros(SHAPE, dtype)
    out.reshape(-1)[::300] = 7
    return out


def plans():
    for dtype in INTS:
        void = f"void:{bytes(np.dtype(dtype).itemsize).hex()}"
        for pixels, text in (
            (noise(dtype), "lift"),
            (noise(dtype), "up across packed"),
            (noise(dtype), "runs:apart"),
            (noise(dtype), "runs:apart packed"),
            (alternating(dtype), "runs:apart"),
            (alternating(dtype), "sparse"),
            (sparse(dtype), "sparse packed"),
            (alternating(dtype), f"{void} up"),
            (noise(dtype), f"{void} lift"),
            (sparse(dtype), f"{void} up across"),
        ):
            yield dtype, pixels, text
    yield "uint8", noise("uint8"), "runs:pairs"
    yield "uint8", alternating("uint8"), "runs:pairs"
    yield "uint8", noise("uint8"), "void:07 classes:8"
    yield "bool", noise("bool", 2), ""
    yield "bool", noise("bool", 2), "runs:apart"
    yield "int16", noise("int16", shape=(3, N, N // 3)), "bands:-,0,1 up pixel"
    yield "uint16", noise("uint16", 200), "palette:u1 up"
    yield "int32", noise("int32", 200) + 5, "offset:u1,5 up"
    for dtype in ("float32", "float64"):
        cents = (noise("int64", 30_000) / 100).astype(dtype)
        yield dtype, cents, "scale:i4,/100.0 up"
        yield dtype, cents, "order palette:u2 up"
        yield dtype, cents, "order up across packed"
    yield "complex64", noise("float32", 9).astype("complex64"), "order up"
    yield "complex_int16", noise("int16", 9).astype("complex64"), "lift"


PLANS = list(plans())


def peak_of(data, shape, dtype, out, **options):
    tracemalloc.start()
    try:
        decode_tile(data, shape=shape, dtype=dtype, out=out, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(
    ("dtype", "pixels", "text"),
    PLANS,
    ids=[f"{dtype} {text} {k}" for k, (dtype, _, text) in enumerate(PLANS)],
)
def test_a_tile_takes_twice_its_pixels(dtype, pixels, text, is_full):
    stream = encode_with(pixels, dtype, Plan.unpack(text))
    data, out = stream.pack(), np.empty_like(pixels)
    peak = peak_of(data, pixels.shape, dtype, out, verify_md5=is_full)
    assert out.tobytes() == pixels.tobytes()
    pieces = unpack_pieces((stream.payload(2) or b"FXRS")[4:])
    # LZMA keeps all that it may refer to.
    largest = max((p[3] for p in pieces if p[0] == LZMA), default=0)
    assert out.nbytes + peak < 2 * out.nbytes + len(data) + largest + FIXED


@pytest.mark.parametrize("is_full", [False, True])
def test_samples_wider_than_pixels_take_no_more(is_full):
    """Eight channels of 24 bits, 32 bytes a sample, for a tile of bytes."""
    samples = np.zeros((N * N, 8), np.int32)
    samples[:, 0], samples[:, 1:] = 5, 99
    data = tile_of(samples, 24, "")
    out = np.empty(SHAPE, np.uint8)
    peak = peak_of(data, SHAPE, "uint8", out, verify_md5=is_full)
    assert (out == 5).all()  # what lies beyond 8 bits wraps around
    assert out.nbytes + peak < 2 * out.nbytes + len(data) + FIXED


def tile_of(samples, bits, transforms, side=b"", dtype="uint8"):
    info, frames = encode_samples(samples, bits)
    comments = {
        "GEOSPATIAL_DTYPE": dtype,
        "GEOSPATIAL_COUNT": "1",
        "GEOSPATIAL_HEIGHT": str(N),
        "GEOSPATIAL_WIDTH": str(N),
        "GEOSPATIAL_TRANSFORMS": transforms,
    }
    blocks = [pack_comments(comments), *pack_application(b"FXRS", side)]
    return pack_stream(info, blocks, frames)


ONE = np.zeros(1, np.int16)
FULL = b"\xff" * (N * N)
LONG = np.full(N * N, 4, np.uint8).tobytes()


@pytest.mark.parametrize(
    ("transforms", "side", "word"),
    [
        # Counts of which each has a long rest.
        ("runs:apart", pack_piece(FULL) + pack_piece(4 * LONG), "expected 0 to"),
        ("sparse packed", 2 * (pack_piece(LONG) + pack_piece(b"")), "a pixel at"),
        ("runs:apart packed", 2 * (pack_piece(LONG) + pack_piece(b"")), "runs hold"),
        ("void:00 packed", pack_piece(LONG) + pack_piece(b""), "a mask has"),
        ("runs:pairs", pack_piece(LONG + LONG) + pack_piece(b""), "runs hold"),
        ("palette:u1", pack_piece(bytes(N * N)), "expected 1 to 256"),
        ("classes:8", pack_piece(bytes(2 * N * N)), "must be stored"),
        ("void:07 up", pack_mask(np.ones(SHAPE, np.bool_)), "expected 589824"),
    ],
)  # fmt: skip
def test_malformed_tiles_take_no_more(transforms, side, word):
    data = tile_of(ONE, 16, transforms, side)
    out = np.empty(SHAPE, np.uint8)
    tracemalloc.start()
    with pytest.raises(CorruptTileError, match=word):
        decode_tile(data, shape=SHAPE, dtype="uint8", out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Pieces of two bytes a pixel are within what runs in pairs may be.
    assert out.nbytes + peak < 4 * out.nbytes + len(data) + FIXED


@pytest.mark.parametrize("rank", [-1, -3, 3, 127])
def test_a_rank_outside_the_palette_is_refused(rank):
    """Below zero too: NumPy would count from the end."""
    samples = np.full(N * N, rank, np.int8)
    data = tile_of(samples, 8, "palette:i1", pack_piece(b"\1\1\1"))
    with pytest.raises(CorruptTileError, match="rank outside"):
        decode_tile(data, shape=SHAPE, dtype="uint8")
