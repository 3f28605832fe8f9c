"""FLAC samples: integers to frames and back.

Strategy: `_flac`, a small C extension, encodes and decodes all frames of a tile in one
call without the GIL. STREAMINFO is compared with what the caller expects before
anything is allocated, the number of decoded samples afterwards. What the extension does
not read (two channels of 32 bits as sum and difference) libFLAC does.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray import _flac
from flac_xarray.errors import CorruptTileError
from flac_xarray.flac_stream import StreamInfo
from flac_xarray.transforms.words import join_words

__all__ = [
    "MAX_LEVEL",
    "count_frames",
    "decode_into",
    "decode_samples",
    "encode_samples",
    "samples_md5",
]

Samples = NDArray[np.integer[Any]]

SAMPLE_RATE: Final = 44100
"""Samples of a raster have no rate; this one has a short code in frame headers."""
MAX_BLOCKSIZE: Final = 65535
MAX_LEVEL: Final = 3
_UNSUPPORTED: Final = "unsupported"
_LIBFLAC_ERROR: Final = "libFLAC finds an error"
_INTERLEAVED, _JOINED, _PLANAR = range(3)
"""Layouts of decoded samples, as `_flac` numbers them."""


def encode_samples(
    samples: Samples, bits_per_sample: int, *, level: int = 2, blocksize: int = 2048
) -> tuple[StreamInfo, bytes]:
    """Encode samples to FLAC frames.

    Parameters
    ----------
    samples : ndarray of signed integers, shape (n,) or (n, channels)
        At least one, at most 8 channels, each value within `bits_per_sample`.
    bits_per_sample
        4 to 24.
    level
        0: fixed predictors; 1: and linear prediction of up to 4 samples; 2: 8 where it
        saves enough to be decoded more slowly; 3: 12.
    blocksize
        Samples of a channel per frame, 16 to 65535.

    Returns
    -------
    info : StreamInfo
        With total samples and MD5.
    frames : bytes
        What follows the metadata blocks.

    Raises
    ------
    ValueError
        An argument is out of range, or a sample needs more bits.

    Examples
    --------
    >>> info, frames = encode_samples(np.arange(100, dtype=np.int16), 16)
    >>> info.total_samples, decode_samples(
    ...     info, frames, count=100, channels=1)[-2:].tolist()
    (100, [98, 99])
    """
    data, channels = _as_words(samples)
    frames, smallest, largest = _flac.encode(
        data, data.itemsize, channels, bits_per_sample, blocksize, level
    )
    info = StreamInfo(
        min_blocksize=blocksize,
        max_blocksize=blocksize,
        min_framesize=smallest,
        max_framesize=largest,
        sample_rate=SAMPLE_RATE,
        channels=channels,
        bits_per_sample=bits_per_sample,
        total_samples=len(samples),
        md5=samples_md5(data, bits_per_sample),
    )
    return info, frames


def count_frames(
    samples: Samples, bits_per_sample: int, *, level: int = 1, blocksize: int = 2048
) -> int:
    """Count the bytes that `encode_samples` would give, in less time.

    Examples
    --------
    >>> samples = np.arange(100, dtype=np.int16)
    >>> count_frames(samples, 16) == len(encode_samples(samples, 16, level=1)[1])
    True
    """
    data, channels = _as_words(samples)
    return _flac.count(data, data.itemsize, channels, bits_per_sample, blocksize, level)


def decode_samples(
    info: StreamInfo,
    frames: bytes | memoryview,
    *,
    count: int,
    channels: int,
    is_checked: bool = False,
) -> Samples:
    """Decode FLAC frames to samples.

    Parameters
    ----------
    info
        STREAMINFO of the stream the frames are from.
    frames
        Everything behind the metadata blocks.
    count, channels
        What the caller expects; anything else is an error.
    is_checked
        The caller has compared a checksum of these bytes: the frames' own ones are
        not computed again.

    Returns
    -------
    ndarray, shape (count,) or (count, channels), dtype int8, int16 or int32
        The smallest that holds the bits of a sample.

    Raises
    ------
    CorruptTileError
        STREAMINFO promises something else, or the frames do not hold it.
    """
    _check_promise(info, len(frames), count, channels)
    out = np.empty((count, channels), _word_dtype(info.bits_per_sample))

    def put(start: int, samples: Samples) -> None:
        out[start : start + len(samples)] = samples

    found, error = _call(info, frames, out, _INTERLEAVED, is_checked=is_checked)
    if error == _UNSUPPORTED:
        found, error = _decode_libflac(info, frames, put), _LIBFLAC_ERROR
    _check_found(info, found, error)
    return out.reshape(-1) if channels == 1 else out


def decode_into(
    info: StreamInfo,
    frames: bytes | memoryview,
    out: Samples,
    *,
    planes: int | None = None,
    is_checked: bool = False,
    verify_md5: bool = False,
) -> None:
    """Decode FLAC frames to values of the caller's size, modulo 2**bits of it.

    Nothing of the samples' own size is kept, however wide they are.

    Parameters
    ----------
    info, frames, is_checked
        As in `decode_samples`.
    out : ndarray of integers, shape (n,), contiguous
        Filled; its content is undefined after an error.
    planes
        The channels that there must be: `out` holds one after another. By default, each
        sample's channels are digits of one value (docs/format.md, section 4.6).
    verify_md5
        Compare with STREAMINFO's MD5, where it has one.

    Raises
    ------
    CorruptTileError
        STREAMINFO promises something else, or the frames do not hold it.
    """
    channels = planes or info.channels
    count = out.size // (planes or 1)
    _check_promise(info, len(frames), count, channels)
    bits = info.bits_per_sample
    md5 = hashlib.md5(usedforsecurity=False) if verify_md5 and any(info.md5) else None

    def put(start: int, samples: Samples) -> None:
        stop = start + len(samples)
        if md5:
            md5.update(samples.tobytes())
        if planes is None:
            out[start:stop] = join_words(samples, bits, out.dtype)
        else:
            out.reshape(planes, count)[:, start:stop] = samples.T

    layout = _JOINED if planes is None else _PLANAR
    update = md5.update if md5 else None
    found, error = _call(info, frames, out, layout, update, is_checked=is_checked)
    if error == _UNSUPPORTED:
        # From the first frame again.
        md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        found, error = _decode_libflac(info, frames, put), _LIBFLAC_ERROR
    _check_found(info, found, error)
    if md5 and md5.digest() != info.md5:
        raise CorruptTileError("the tile's samples do not have its MD5")


def _check_promise(info: StreamInfo, nbytes: int, count: int, channels: int) -> None:
    """Compare STREAMINFO with what there must be, before anything is allocated."""
    if (info.total_samples, info.channels) != (count, channels):
        raise CorruptTileError(
            f"the FLAC stream has {info.total_samples} samples in {info.channels} "
            f"channels: expected {count} in {channels}"
        )
    # No frame is shorter than 10 bytes or longer than 65535 samples: what cannot be in
    # these bytes is not allocated.
    if count > nbytes // 10 * MAX_BLOCKSIZE:
        raise CorruptTileError(
            f"{nbytes} bytes of FLAC frames: too few for {count} samples"
        )


def _call(
    info: StreamInfo,
    frames: bytes | memoryview,
    out: Samples,
    layout: int,
    update: Callable[[bytes], None] | None = None,
    *,
    is_checked: bool,
) -> tuple[int, str | None]:
    channels, bits = info.channels, info.bits_per_sample
    blocksize = max(info.max_blocksize, 1)
    found, error = _flac.decode(
        frames, out, out.itemsize, channels, bits, blocksize, is_checked, layout, update
    )
    return found, error


def _check_found(info: StreamInfo, found: int, error: str | None) -> None:
    if found != info.total_samples:
        raise CorruptTileError(
            f"the FLAC stream is damaged: {found} of {info.total_samples} samples "
            f"decode, then there is {error}"
        )


def samples_md5(samples: Samples, bits_per_sample: int) -> bytes:
    """Give the MD5 that STREAMINFO holds for these samples (RFC 9639, 8.2).

    Examples
    --------
    >>> info, _ = encode_samples(np.arange(-9, 9, dtype=np.int32), 24)
    >>> info.md5 == samples_md5(np.arange(-9, 9, dtype=np.int32), 24)
    True
    """
    nbytes = -(-bits_per_sample // 8)
    words = np.ascontiguousarray(samples, _word_dtype(bits_per_sample))
    if words.itemsize != nbytes:  # 3 bytes have no dtype
        words = np.ascontiguousarray(words.reshape(-1, 1).view(np.uint8)[:, :nbytes])
    return hashlib.md5(words.data, usedforsecurity=False).digest()


def _word_dtype(bits: int) -> np.dtype[Any]:
    """Give the smallest dtype that holds a sample."""
    return np.dtype(f"i{1 if bits <= 8 else 2 if bits <= 16 else 4}")  # noqa: PLR2004


def _as_words(samples: Samples) -> tuple[Samples, int]:
    """Give samples as the extension takes them, and the number of channels."""
    size = min(samples.itemsize, 4)
    return np.ascontiguousarray(samples, f"i{size}"), samples.size // len(samples)


def _decode_libflac(
    info: StreamInfo, frames: bytes | memoryview, put: Callable[[int, Samples], None]
) -> int:
    from flac_xarray.libflac import decode_libflac

    # The decoder sees STREAMINFO and the frames, never comments and side data.
    head = b"fLaC\x80\x00\x00\x22" + info.pack()
    return decode_libflac(b"".join((head, frames)), info, put)


if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("flac_xarray: bits are laid out for little-endian machines")
