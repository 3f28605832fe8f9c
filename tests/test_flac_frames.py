import contextlib
import hashlib
import io
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flac_xarray.errors import CorruptTileError, FormatError
from flac_xarray.flac_frames import (
    MAX_LEVEL,
    count_frames,
    decode_samples,
    encode_samples,
    samples_md5,
)
from flac_xarray.flac_stream import pack_stream
from tests.foreign_flac import dr_flac_decode, libflac_decode, libflac_encode

FLAC = shutil.which("flac")
needs_flac = pytest.mark.skipif(
    FLAC is None, reason="the flac command is not installed"
)


def walk(bits, channels=1, count=5000):
    """Samples that touch both ends of their range."""
    half = 1 << (bits - 1)
    rng = np.random.default_rng(bits * 8 + channels)
    steps = rng.normal(0, half / 200, (count, channels))
    samples = np.clip(steps.cumsum(axis=0), -half, half - 1).astype(np.int32)
    samples[7], samples[8] = -half, half - 1
    return samples


KINDS = ["walk", "noise", "sparse", "steps", "waves", "constant", "ramp", "even"]


def kind_of_samples(kind, bits, channels=1, count=5000):
    half = 1 << (bits - 1)
    rng = np.random.default_rng(bits)
    shape = (count, channels)
    index = np.arange(count)[:, None] * np.ones((1, channels), int)
    match kind:
        case "noise":
            samples = rng.integers(-half, half, shape)
        case "sparse":
            samples = np.where(rng.random(shape) < 0.003, half - 1, 0)
        case "steps":
            samples = np.repeat(
                rng.integers(-half, half, (-(-count // 97), channels)), 97, 0
            )
            samples = samples[:count]
        case "waves":
            samples = np.rint((half - 1) * np.sin(index / 7) * np.cos(index / 301))
        case "constant":
            samples = np.full(shape, -half)
        case "ramp":
            samples = index % (2 * half) - half
        case "even":
            samples = rng.integers(-half // 8, half // 8, shape) * 8
        case _:
            return walk(bits, channels, count)
    return samples.astype(np.int32)


def assert_decodes(decode, info, frames, samples):
    np.testing.assert_array_equal(decode(info, frames), samples)


@pytest.mark.parametrize("level", range(MAX_LEVEL + 1))
@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("bits", [4, 8, 12, 16, 17, 20, 24])
def test_other_decoders_give_the_samples(bits, channels, level):
    samples = walk(bits, channels)
    info, frames = encode_samples(samples, bits, level=level)
    assert (info.channels, info.bits_per_sample) == (channels, bits)
    assert info.total_samples == len(samples)
    assert_decodes(dr_flac_decode, info, frames, samples)
    assert_decodes(libflac_decode, info, frames, samples)
    found = decode_samples(info, frames, count=len(samples), channels=channels)
    assert found.dtype == (
        np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32
    )
    np.testing.assert_array_equal(found.reshape(samples.shape), samples)


@pytest.mark.parametrize("level", range(MAX_LEVEL + 1))
@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_samples(kind, bits, level):
    samples = kind_of_samples(kind, bits)
    info, frames = encode_samples(samples, bits, level=level)
    assert count_frames(samples, bits, level=level) == len(frames)
    assert_decodes(dr_flac_decode, info, frames, samples)
    assert_decodes(libflac_decode, info, frames, samples)
    found = decode_samples(info, frames, count=len(samples), channels=1)
    np.testing.assert_array_equal(found, samples[:, 0])
    _, theirs = libflac_encode(samples, bits, level=5, blocksize=2048)
    # Sines of 24 bits, which rasters are not, want coefficients from double precision.
    if level >= 2 and (kind, bits) != ("waves", 24):
        assert len(frames) <= 1.02 * len(theirs)


@pytest.mark.parametrize("level", [0, 2, 5, 8])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("bits", [4, 8, 13, 16, 20, 24, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_other_encoders(kind, bits, channels, level):
    # With two channels libFLAC stores sums and differences; those of 32 bits need 33.
    samples = kind_of_samples(kind, bits, channels)
    info, frames = libflac_encode(samples, bits, level=level)
    found = decode_samples(info, frames, count=len(samples), channels=channels)
    np.testing.assert_array_equal(found.reshape(samples.shape), samples)


@pytest.mark.parametrize("blocksize", [16, 17, 192, 576, 1000, 4096, 4608, 65535])
def test_any_blocksize(blocksize):
    samples = walk(16, 1, 200_000)
    info, frames = encode_samples(samples, 16, blocksize=blocksize)
    assert (info.min_blocksize, info.max_blocksize) == (blocksize, blocksize)
    assert_decodes(dr_flac_decode, info, frames, samples)
    found = decode_samples(info, frames, count=len(samples), channels=1)
    np.testing.assert_array_equal(found, samples[:, 0])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 2047, 2048, 2049])
def test_any_number_of_samples(count):
    samples = walk(16, 1, 2049)[-count:] if count < 9 else walk(16, 1, count)
    info, frames = encode_samples(samples, 16)
    assert_decodes(libflac_decode, info, frames, samples)
    found = decode_samples(info, frames, count=count, channels=1)
    np.testing.assert_array_equal(found, samples[:, 0])


@settings(deadline=None, max_examples=200)
@given(
    bits=st.sampled_from([8, 16, 24]),
    runs=st.lists(
        st.tuples(st.integers(0, 23), st.integers(1, 700), st.booleans()), max_size=12
    ),
    level=st.integers(0, MAX_LEVEL),
    seed=st.integers(0, 99),
)
def test_what_is_encoded_decodes(bits, runs, level, seed):
    # Pieces of very different loudness in a frame: long codes and many parameters.
    rng = np.random.default_rng(seed)
    pieces = [np.zeros(1, np.int64)]
    for width, length, is_walk in runs:
        half = 1 << min(width, bits - 1)
        piece = rng.integers(-half, half, length)
        pieces.append(piece // 64 + length if is_walk else piece)
    limit = 1 << (bits - 1)
    samples = np.clip(np.concatenate(pieces), -limit, limit - 1).astype(np.int32)
    info, frames = encode_samples(samples, bits, level=level)
    found = decode_samples(info, frames, count=len(samples), channels=1)
    np.testing.assert_array_equal(found, samples)
    assert_decodes(libflac_decode, info, frames, samples[:, None])


def test_samples_that_need_more_bits_are_refused():
    with pytest.raises(ValueError, match="more than 8 bits"):
        encode_samples(np.array([0, 128], np.int16), 8)
    with pytest.raises(ValueError, match="out of range"):
        encode_samples(np.zeros(5, np.int32), 25)


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_md5_is_of_little_endian_samples(bits):
    info, _ = encode_samples(walk(bits, 2), bits)
    raw = b"".join(
        int(s).to_bytes(bits // 8, "little", signed=True) for s in walk(bits, 2).flat
    )
    assert info.md5 == hashlib.md5(raw, usedforsecurity=False).digest()
    assert samples_md5(walk(bits, 2), bits) == info.md5
    assert libflac_encode(walk(bits, 2), bits)[0].md5 == info.md5


@needs_flac
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_the_reference_decoder_agrees(bits, tmp_path):
    samples = walk(bits, 2)
    info, frames = encode_samples(samples, bits)
    path = tmp_path / "tile.flac"
    path.write_bytes(pack_stream(info, [], frames))
    subprocess.run([FLAC, "-t", "-s", "-w", path], check=True)
    raw = subprocess.run(
        [
            FLAC,
            *[
                "-d",
                "-c",
                "-s",
                "--force-raw-format",
                "--endian=little",
                "--sign=signed",
            ],
            path,
        ],
        check=True,
        capture_output=True,
    ).stdout
    expected = b"".join(
        int(s).to_bytes(bits // 8, "little", signed=True) for s in samples.flat
    )
    assert raw == expected


def test_soundfile_agrees():
    soundfile = pytest.importorskip("soundfile")
    samples = walk(16, 3)
    info, frames = encode_samples(samples, 16)
    stream = io.BytesIO(pack_stream(info, [], frames))
    found, _ = soundfile.read(stream, dtype="int16")
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("change", ["total_samples", "channels"])
def test_another_promise_than_expected_is_refused(change):
    info, frames = encode_samples(walk(16), 16)
    lying = replace(info, **{change: getattr(info, change) + 1})
    with pytest.raises(CorruptTileError, match="expected 5000 in 1"):
        decode_samples(lying, frames, count=5000, channels=1)


def test_a_stream_cannot_promise_more_than_its_bytes_hold():
    info, frames = encode_samples(walk(16), 16)
    lying = replace(info, total_samples=1 << 35)
    with pytest.raises(CorruptTileError, match="too few"):
        decode_samples(lying, frames, count=1 << 35, channels=1)


def test_damaged_and_truncated_frames():
    info, frames = encode_samples(walk(16), 16)
    flipped = bytearray(frames)
    flipped[len(flipped) // 2] ^= 1
    for broken in (flipped, frames[:-100], b"", frames[50:]):
        with pytest.raises(CorruptTileError):
            decode_samples(info, bytes(broken), count=5000, channels=1)


@pytest.mark.parametrize("bits", [16, 32])
def test_any_flipped_bit_is_found(bits):
    # Both CRCs of a frame are compared; at 32 bits in two channels libFLAC is asked.
    samples = walk(bits, 2, 40)
    info, frames = libflac_encode(samples, bits, level=2)
    for at in range(8 * len(frames)):
        broken = bytearray(frames)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(CorruptTileError):
            decode_samples(info, bytes(broken), count=40, channels=2)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=300,
)
@given(
    at=st.integers(0, 10_000),
    byte=st.integers(0, 255),
    data=st.binary(max_size=64),
    bits=st.sampled_from([8, 16, 24]),
)
def test_hostile_frames_yield_samples_or_format_error(at, byte, data, bits):
    info, frames = encode_samples(walk(16), 16)
    hostile = bytearray(frames)
    hostile[at % len(hostile)] = byte
    info = replace(info, bits_per_sample=bits)
    for stream in (bytes(hostile), data):
        with contextlib.suppress(FormatError):
            decode_samples(info, stream, count=5000, channels=1)
