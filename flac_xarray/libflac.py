"""FLAC samples: integers to frames and back; the only importer of FLAC libraries.

Strategy: libFLAC (in pyFLAC) encodes. dr_flac (in miniaudio) decodes a stream in one C
call, without the GIL, into a NumPy buffer; where it cannot (more than 24 bits a sample,
no miniaudio on this platform), libFLAC decodes through callbacks of our own. The
libraries are imported at the first call. STREAMINFO is compared with what the caller
expects before anything is allocated, the number of decoded samples afterwards.
"""

from __future__ import annotations

import hashlib
import io
import sys
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError
from flac_xarray.flac_stream import StreamInfo, unpack_stream

__all__ = ["decode_samples", "encode_samples", "samples_md5"]

Samples = NDArray[np.integer[Any]]

SAMPLE_RATE: Final = 44100
"""Samples of a raster have no rate; this one has a short code in frame headers."""
MAX_BLOCKSIZE: Final = 65535
MIN_BLOCKSIZE: Final = 16
_DR_FLAC_MAX_BITS: Final = 24


def encode_samples(
    samples: Samples, bits_per_sample: int, *, level: int = 5, blocksize: int = 2048
) -> tuple[StreamInfo, memoryview]:
    """Encode samples to FLAC frames.

    Parameters
    ----------
    samples : ndarray of signed integers, shape (n,) or (n, channels)
        At least one, at most 8 channels, each value within `bits_per_sample`.
    bits_per_sample
        4 to 32.
    level
        libFLAC's compression level, 0 to 8.
    blocksize
        Samples of a channel per frame, 16 to 65535.

    Returns
    -------
    info : StreamInfo
        With total samples and MD5.
    frames : memoryview
        What follows the metadata blocks.

    Examples
    --------
    >>> info, frames = encode_samples(np.arange(100, dtype=np.int16), 16)
    >>> info.total_samples, decode_samples(
    ...     info, frames, count=100, channels=1)[-2:].tolist()
    (100, [98, 99])
    """
    from pyflac import StreamEncoder
    from pyflac._encoder import ffi, lib

    data = np.ascontiguousarray(samples.reshape(len(samples), -1), np.int32)
    sink = io.BytesIO()
    # Seek and tell let libFLAC put sample count and MD5 into STREAMINFO at the end.
    encoder = StreamEncoder(
        SAMPLE_RATE,
        lambda buffer, *_: sink.write(buffer),
        sink.seek,
        sink.tell,
        compression_level=level,
        blocksize=min(max(blocksize, MIN_BLOCKSIZE), MAX_BLOCKSIZE),
        streamable_subset=False,
    )
    encoder._channels = data.shape[1]  # noqa: SLF001  # pyFLAC guesses them from dtypes
    encoder._bits_per_sample = bits_per_sample  # noqa: SLF001
    encoder._init()  # noqa: SLF001
    pointer = ffi.from_buffer("int32_t[]", data)
    done = lib.FLAC__stream_encoder_process_interleaved(
        encoder._encoder,  # noqa: SLF001
        pointer,
        len(data),
    )
    if not done or not encoder.finish():
        raise ValueError(
            f"libFLAC cannot encode {data.shape} samples of {bits_per_sample} bits: "
            f"{encoder.state}"
        )
    stream = sink.getbuffer()
    info, _, offset = unpack_stream(stream)
    return info, stream[offset:]


def decode_samples(
    info: StreamInfo,
    frames: bytes | memoryview,
    *,
    count: int,
    channels: int,
    decoder: str = "auto",
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
    decoder
        ``"auto"``, ``"dr_flac"`` or ``"libflac"``.

    Returns
    -------
    ndarray, shape (count,) or (count, channels), dtype int16 or int32
        int16 for up to 16 bits a sample.

    Raises
    ------
    CorruptTileError
        STREAMINFO promises something else, or the frames do not hold it.
    """
    if (info.total_samples, info.channels) != (count, channels):
        raise CorruptTileError(
            f"the FLAC stream has {info.total_samples} samples in {info.channels} "
            f"channels: expected {count} in {channels}"
        )
    # No frame is shorter than 10 bytes or longer than 65535 samples: what cannot be in
    # these bytes is not allocated.
    if count > len(frames) // 10 * MAX_BLOCKSIZE:
        raise CorruptTileError(
            f"{len(frames)} bytes of FLAC frames: too few for {count} samples"
        )
    wanted = decoder
    if decoder == "auto":
        small = info.bits_per_sample <= _DR_FLAC_MAX_BITS
        wanted = "dr_flac" if small and _miniaudio() is not None else "libflac"
    # The decoders see STREAMINFO and the frames, never comments and side data.
    head = b"fLaC\x80\x00\x00\x22" + info.pack()
    stream = b"".join((head, frames))
    dtype = np.int16 if info.bits_per_sample <= np.iinfo(np.int16).bits else np.int32
    out = np.empty((count, channels), dtype)
    decode = _decode_dr_flac if wanted == "dr_flac" else _decode_libflac
    found = decode(stream, info, out)
    if found != count:
        raise CorruptTileError(
            f"the FLAC stream is damaged: {found} of {count} samples decode"
        )
    return out.reshape(-1) if channels == 1 else out


def samples_md5(samples: Samples, bits_per_sample: int) -> bytes:
    """Give the MD5 that STREAMINFO holds for these samples (RFC 9639, 8.2).

    Examples
    --------
    >>> info, _ = encode_samples(np.arange(-9, 9, dtype=np.int32), 24)
    >>> info.md5 == samples_md5(np.arange(-9, 9, dtype=np.int32), 24)
    True
    """
    nbytes = -(-bits_per_sample // 8)
    words = np.ascontiguousarray(samples, "<i4" if nbytes > 2 else "<i2")  # noqa: PLR2004  # 3 bytes have no dtype
    parts = words.reshape(-1, 1).view(np.uint8)[:, :nbytes]
    return hashlib.md5(parts.tobytes(), usedforsecurity=False).digest()


@cache
def _miniaudio() -> Any:
    try:
        import miniaudio
    except (ImportError, OSError):
        return None
    return miniaudio


def _decode_dr_flac(stream: bytes, info: StreamInfo, out: Samples) -> int:
    """Fill `out`, return how many samples there were."""
    miniaudio = _miniaudio()
    ffi, lib = miniaudio.ffi, miniaudio.lib
    buffer = ffi.from_buffer(stream)
    flac = lib.ma_dr_flac_open_memory(buffer, len(stream), ffi.NULL)
    if flac == ffi.NULL:
        raise CorruptTileError("the FLAC stream is damaged: dr_flac does not open it")
    try:
        if (flac.channels, flac.bitsPerSample) != (
            info.channels,
            info.bits_per_sample,
        ):
            return 0
        if out.dtype == np.int16:
            read, kind, shift = lib.ma_dr_flac_read_pcm_frames_s16, "short[]", 16
        else:
            read, kind, shift = lib.ma_dr_flac_read_pcm_frames_s32, "int[]", 32
        found = read(flac, len(out), ffi.from_buffer(kind, out, require_writable=True))
    finally:
        lib.ma_dr_flac_close(flac)
    # dr_flac aligns samples to the top of the word.
    if shift := shift - info.bits_per_sample:
        np.right_shift(out, shift, out=out)
    return int(found)


class _LibflacClient:
    """What the callbacks of one libFLAC decoder share."""

    def __init__(self, stream: bytes, info: StreamInfo, out: Samples) -> None:
        self.stream = memoryview(stream)
        self.info = info
        self.out = out
        self.offset = 0
        self.found = 0
        self.is_damaged = False


@cache
def _libflac_callbacks() -> tuple[Any, ...]:
    """Make the read, write and error callbacks, once and for all threads."""
    from pyflac._decoder import ffi, lib

    @ffi.callback("FLAC__StreamDecoderReadCallback", error=2)  # type: ignore[untyped-decorator]  # cffi
    def read(_decoder: Any, buffer: Any, nbytes: Any, data: Any) -> int:
        client = ffi.from_handle(data)
        chunk = client.stream[client.offset : client.offset + nbytes[0]]
        ffi.memmove(buffer, chunk, len(chunk))
        client.offset += len(chunk)
        nbytes[0] = len(chunk)
        return 0 if len(chunk) else int(lib.FLAC__STREAM_DECODER_READ_STATUS_ABORT)

    @ffi.callback("FLAC__StreamDecoderWriteCallback", error=1)  # type: ignore[untyped-decorator]  # cffi
    def write(_decoder: Any, frame: Any, buffer: Any, data: Any) -> int:
        client = ffi.from_handle(data)
        head = frame.header
        stop = client.found + head.blocksize
        is_ours = (head.channels, head.bits_per_sample) == (
            client.info.channels,
            client.info.bits_per_sample,
        )
        if not is_ours or stop > len(client.out):
            client.is_damaged = True
            return 1
        for i in range(head.channels):
            raw = ffi.buffer(buffer[i], head.blocksize * 4)
            client.out[client.found : stop, i] = np.frombuffer(raw, np.int32)
        client.found = stop
        return 0

    @ffi.callback("FLAC__StreamDecoderErrorCallback")  # type: ignore[untyped-decorator]  # cffi
    def error(_decoder: Any, _status: Any, data: Any) -> None:
        ffi.from_handle(data).is_damaged = True

    return read, write, error


def _decode_libflac(stream: bytes, info: StreamInfo, out: Samples) -> int:
    """Fill `out`, return how many samples there were before any damage."""
    from pyflac._decoder import ffi, lib

    read, write, error = _libflac_callbacks()
    client = _LibflacClient(stream, info, out)
    handle = ffi.new_handle(client)
    decoder = ffi.gc(lib.FLAC__stream_decoder_new(), lib.FLAC__stream_decoder_delete)
    null = ffi.NULL
    status = lib.FLAC__stream_decoder_init_stream(
        decoder, read, null, null, null, null, write, null, error, handle
    )
    if status != lib.FLAC__STREAM_DECODER_INIT_STATUS_OK:
        raise RuntimeError(f"libFLAC's decoder does not start: status {status}")
    end = lib.FLAC__STREAM_DECODER_END_OF_STREAM
    # Frame by frame: after damage libFLAC would go on searching for a next frame.
    while client.found < len(out) and not client.is_damaged:
        done = lib.FLAC__stream_decoder_process_single(decoder)
        if not done or lib.FLAC__stream_decoder_get_state(decoder) >= end:
            break
    lib.FLAC__stream_decoder_finish(decoder)
    return client.found if not client.is_damaged else min(client.found, len(out) - 1)


if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("flac_xarray: bits are laid out for little-endian machines")
