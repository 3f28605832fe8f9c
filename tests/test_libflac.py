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
from flac_xarray.flac_stream import pack_stream
from flac_xarray.libflac import decode_samples, encode_samples, samples_md5

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


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("bits", [4, 8, 12, 16, 17, 20, 24])
def test_both_decoders_give_the_samples(bits, channels):
    samples = walk(bits, channels)
    info, frames = encode_samples(samples, bits)
    assert (info.channels, info.bits_per_sample) == (channels, bits)
    assert info.total_samples == len(samples)
    for decoder in ("dr_flac", "libflac", "auto"):
        found = decode_samples(
            info, frames, count=len(samples), channels=channels, decoder=decoder
        )
        assert found.dtype == (np.int16 if bits <= 16 else np.int32)
        np.testing.assert_array_equal(found.reshape(samples.shape), samples)


def test_32_bits_go_to_libflac():
    samples = walk(32, 2)
    info, frames = encode_samples(samples, 32)
    found = decode_samples(info, frames, count=len(samples), channels=2)
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 2048, 2049])
def test_any_number_of_samples(count):
    samples = np.arange(count, dtype=np.int16)
    info, frames = encode_samples(samples, 16)
    for decoder in ("dr_flac", "libflac"):
        found = decode_samples(info, frames, count=count, channels=1, decoder=decoder)
        assert found.tolist() == list(range(count))


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_md5_is_of_little_endian_samples(bits):
    info, _ = encode_samples(walk(bits, 2), bits)
    raw = b"".join(
        int(s).to_bytes(bits // 8, "little", signed=True) for s in walk(bits, 2).flat
    )
    assert info.md5 == hashlib.md5(raw, usedforsecurity=False).digest()
    assert samples_md5(walk(bits, 2), bits) == info.md5


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


@pytest.mark.parametrize("decoder", ["dr_flac", "libflac"])
def test_damaged_and_truncated_frames(decoder):
    info, frames = encode_samples(walk(16), 16)
    flipped = bytearray(frames)
    flipped[len(flipped) // 2] ^= 1
    for broken in (flipped, frames[:-100], b"", frames[50:]):
        with pytest.raises(CorruptTileError):
            decode_samples(info, bytes(broken), count=5000, channels=1, decoder=decoder)


@pytest.mark.parametrize("decoder", ["dr_flac", "libflac"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), data=st.binary(max_size=64))
def test_hostile_frames_yield_samples_or_format_error(decoder, at, byte, data):
    info, frames = encode_samples(walk(16), 16)
    hostile = bytearray(frames)
    hostile[at % len(hostile)] = byte
    for stream in (bytes(hostile), data):
        with contextlib.suppress(FormatError):
            decode_samples(info, stream, count=5000, channels=1, decoder=decoder)
