"""libFLAC's decoder (in pyFLAC), for the one stream that ours does not read.

Strategy: two channels of 32 bits that are stored as their sum and difference need 33
bits; such files come from elsewhere, so they may be slow. Callbacks of our own hand
frames on, since pyFLAC's classes lose samples. Imported at the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flac_xarray.flac_stream import StreamInfo

__all__ = ["decode_libflac"]

Samples = NDArray[np.integer[Any]]
PutSamples = Callable[[int, Samples], None]


class _LibflacClient:
    """What the callbacks of one libFLAC decoder share."""

    def __init__(self, stream: bytes, info: StreamInfo, put: PutSamples) -> None:
        self.stream = memoryview(stream)
        self.info = info
        self.put = put
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
        if not is_ours or stop > client.info.total_samples:
            client.is_damaged = True
            return 1
        samples = np.empty((head.blocksize, head.channels), np.int32)
        for i in range(head.channels):
            raw = ffi.buffer(buffer[i], head.blocksize * 4)
            samples[:, i] = np.frombuffer(raw, np.int32)
        client.put(client.found, samples)
        client.found = stop
        return 0

    @ffi.callback("FLAC__StreamDecoderErrorCallback")  # type: ignore[untyped-decorator]  # cffi
    def error(_decoder: Any, _status: Any, data: Any) -> None:
        ffi.from_handle(data).is_damaged = True

    return read, write, error


def decode_libflac(stream: bytes, info: StreamInfo, put: PutSamples) -> int:
    """Decode a stream.

    Parameters
    ----------
    stream
        With STREAMINFO; other metadata blocks may be absent.
    info
        That STREAMINFO.
    put
        Called with the number of its first sample and the samples, int32 of shape
        (n, channels), of each frame.

    Returns
    -------
    int
        How many samples there were before any damage.
    """
    from pyflac._decoder import ffi, lib

    read, write, error = _libflac_callbacks()
    client = _LibflacClient(stream, info, put)
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
    while client.found < info.total_samples and not client.is_damaged:
        done = lib.FLAC__stream_decoder_process_single(decoder)
        if not done or lib.FLAC__stream_decoder_get_state(decoder) >= end:
            break
    lib.FLAC__stream_decoder_finish(decoder)
    if client.is_damaged:
        return min(client.found, info.total_samples - 1)
    return client.found
