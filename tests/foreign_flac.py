"""Other people's FLAC encoders and decoders, as oracles for our frames."""

from __future__ import annotations

import io

import numpy as np

from flac_xarray.flac_stream import pack_stream, unpack_stream


def libflac_encode(samples, bits, *, level=5, blocksize=0):
    """Encode with libFLAC: STREAMINFO and frames, as `encode_samples` gives them."""
    from pyflac import StreamEncoder
    from pyflac._encoder import ffi, lib

    data = np.ascontiguousarray(samples.reshape(len(samples), -1), np.int32)
    sink = io.BytesIO()
    encoder = StreamEncoder(
        44100,
        lambda buffer, *_: sink.write(buffer),
        sink.seek,
        sink.tell,
        compression_level=level,
        blocksize=blocksize,
        streamable_subset=False,
    )
    encoder._channels = data.shape[1]  # noqa: SLF001
    encoder._bits_per_sample = bits  # noqa: SLF001
    encoder._init()  # noqa: SLF001
    pointer = ffi.from_buffer("int32_t[]", data)
    done = lib.FLAC__stream_encoder_process_interleaved(
        encoder._encoder,  # noqa: SLF001
        pointer,
        len(data),
    )
    assert done
    assert encoder.finish()
    stream = sink.getvalue()
    info, _, offset = unpack_stream(stream)
    return info, stream[offset:]


def libflac_decode(info, frames):
    from flac_xarray.libflac import decode_libflac

    out = np.empty((info.total_samples, info.channels), np.int32)

    def put(start, samples):
        out[start : start + len(samples)] = samples

    assert decode_libflac(pack_stream(info, [], frames), info, put) == len(out)
    return out


def dr_flac_decode(info, frames):
    import miniaudio

    stream = pack_stream(info, [], frames)
    buffer = miniaudio.ffi.from_buffer(stream)
    flac = miniaudio.lib.ma_dr_flac_open_memory(buffer, len(stream), miniaudio.ffi.NULL)
    assert flac != miniaudio.ffi.NULL
    out = np.empty((info.total_samples, info.channels), np.int32)
    pointer = miniaudio.ffi.from_buffer("int[]", out, require_writable=True)
    found = miniaudio.lib.ma_dr_flac_read_pcm_frames_s32(flac, len(out), pointer)
    miniaudio.lib.ma_dr_flac_close(flac)
    assert found == len(out)
    return out >> 32 - info.bits_per_sample
