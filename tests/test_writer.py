"""Writing: whole or nothing, the same bytes every time, and refusals."""

from __future__ import annotations

import os
import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest

from flac_xarray import (
    ArrayInfo,
    FlacRaster,
    FlacRasterWriter,
    FormatError,
    Header,
    UnsupportedDataError,
    encode_array,
    write_array,
)
from flac_xarray.sinks import FileSink, MemorySink

RNG = np.random.default_rng(7)


def scene(shape, dtype="int16") -> np.ndarray:
    steps = RNG.integers(-3, 4, shape)
    return np.cumsum(np.cumsum(steps, -1), -2).astype(dtype)


def test_tiles_lie_where_the_table_says_and_each_is_a_flac_stream():
    pixels = scene((2, 70, 90))
    data = encode_array(pixels, tile_size=32, threads=2)
    n_tiles, json_nbytes = 2 * 3 * 3, struct.unpack(">I", data[:4])[0]
    table = 4 + json_nbytes + 16
    spans = []
    for k in range(n_tiles):
        offset, nbytes, crc = struct.unpack_from("<QII", data, table + 16 * k)
        place = struct.pack("<I", 0) + struct.pack("<QQ", k, offset)
        place += struct.pack("<I", nbytes)
        stream = data[offset : offset + nbytes]
        assert stream[:4] == b"fLaC"
        assert zlib.crc32(place, zlib.crc32(stream)) == crc
        spans.append((offset, offset + nbytes))
    assert spans[0][0] == table + 16 * n_tiles
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert spans[-1][1] == len(data)


def test_the_same_input_gives_the_same_bytes_with_any_number_of_threads():
    pixels = scene((3, 100, 100), "float32")
    one = encode_array(pixels, tile_size=32, threads=1)
    assert encode_array(pixels, tile_size=32, threads=4) == one


def test_empty_tiles_take_no_bytes_and_other_zeros_do():
    pixels = np.zeros((1, 8, 24), "float32")
    pixels[0, :, 8:16] = -0.0  # other bits than 0.0
    data = encode_array(pixels, tile_size=8)
    table = 4 + struct.unpack(">I", data[:4])[0] + 16
    nbytes = [struct.unpack_from("<QII", data, table + 16 * k)[1] for k in range(3)]
    assert (nbytes[0], nbytes[2]) == (0, 0)
    assert nbytes[1] > 0
    with FlacRaster.open(data) as raster:
        assert raster.read().tobytes() == pixels.tobytes()


def test_a_tile_of_nodata_is_empty_and_one_of_zeros_is_not():
    pixels = np.zeros((1, 8, 16), "int16")
    pixels[0, :, :8] = -9999
    data = encode_array(pixels, tile_size=8, nodata=-9999)
    table = 4 + struct.unpack(">I", data[:4])[0] + 16
    nbytes = [struct.unpack_from("<QII", data, table + 16 * k)[1] for k in range(2)]
    assert nbytes[0] == 0 < nbytes[1]
    with FlacRaster.open(data) as raster:
        np.testing.assert_array_equal(raster.read(), pixels)


def test_an_exception_inside_leaves_nothing(tmp_path):
    header = Header((ArrayInfo("a", "uint8", ("y", "x"), (8, 8), (4, 4)),))
    target = tmp_path / "a.flac"

    def half_written() -> None:
        with FlacRasterWriter.create(target, header) as writer:
            writer.write(np.ones((4, 8), "uint8"))
            msg = "user code"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="user code"):
        half_written()
    assert list(tmp_path.iterdir()) == []


def test_missing_tiles_are_refused_and_leave_nothing(tmp_path):
    header = Header((ArrayInfo("a", "uint8", ("y", "x"), (8, 8), (4, 4)),))
    writer = FlacRasterWriter.create(tmp_path / "a.flac", header)
    writer.write(np.ones((4, 8), "uint8"))
    with pytest.raises(FormatError, match=r"2 of 4 tiles.*\(1, 0\)"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays_without_overwrite(tmp_path):
    target = tmp_path / "a.flac"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        write_array(target, scene((8, 8)))
    assert target.read_bytes() == b"mine"
    write_array(target, scene((8, 8)), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]
    assert target.read_bytes()[4:17] == b'{"format":"fl'


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "a.flac"
    sink = FileSink(target)
    sink.put(b"new", 0)
    target.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        sink.commit()
    assert target.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_no_folder_is_an_os_error_that_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"gone/a\.flac"):
        write_array(tmp_path / "gone" / "a.flac", scene((8, 8)))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset > 2000:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        write_array(tmp_path / "a.flac", scene((200, 200)), tile_size=50)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("block", "offset"),
    [((4, 6), (0, 0)), ((4, 4), (2, 0)), ((12, 4), (0, 0)), ((3, 8), (0, 0))],
)
def test_blocks_that_are_not_whole_tiles_are_refused(block, offset):
    header = Header((ArrayInfo("a", "uint8", ("y", "x"), (8, 8), (4, 4)),))
    writer = FlacRasterWriter(MemorySink(), header)
    with pytest.raises(UnsupportedDataError, match="whole tiles"):
        writer.write(np.ones(block, "uint8"), offset=offset)


def test_a_tile_of_another_dtype_or_written_twice_is_refused():
    header = Header((ArrayInfo("a", "uint8", ("y", "x"), (8, 8), (8, 8)),))
    writer = FlacRasterWriter(MemorySink(), header)
    with pytest.raises(UnsupportedDataError, match="int16"):
        writer.write(np.ones((8, 8), "int16"))
    writer.write(np.ones((8, 8), "uint8"))
    with pytest.raises(ValueError, match="already written"):
        writer.write(np.ones((8, 8), "uint8"))


@pytest.mark.parametrize("bad", [np.array(["a"]), np.array([object()])])
def test_arrays_that_are_no_numbers_are_refused(bad):
    with pytest.raises(UnsupportedDataError, match="dtype"):
        encode_array(bad.reshape(1, 1))


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="effort"):
        encode_array(scene((4, 4)), effort=11)
    with pytest.raises(UnsupportedDataError, match="name per dim"):
        encode_array(scene((2, 2, 4, 4)))
    with pytest.raises(UnsupportedDataError, match="name per dim"):
        encode_array(np.zeros(4))


def test_a_remote_target_appears_whole():
    import fsspec

    pixels = scene((1, 40, 40))
    write_array("memory://out/a.flac", pixels, tile_size=16)
    with FlacRaster.open("memory://out/a.flac") as raster:
        np.testing.assert_array_equal(raster.read(), pixels)
    with pytest.raises(FileExistsError):
        write_array("memory://out/a.flac", pixels)
    fsspec.filesystem("memory").rm("/out", recursive=True)


def test_a_tile_that_does_not_come_back_is_never_written(tmp_path, monkeypatch):
    from flac_xarray import tile_encoder
    from flac_xarray.errors import NotLosslessError

    real = tile_encoder.encode_tile

    def lossy(tile, **options):
        changed = tile.copy()
        changed[..., -1, -1] ^= 1
        return real(changed, **options)

    monkeypatch.setattr(tile_encoder, "encode_tile", lossy)
    with pytest.raises(NotLosslessError, match=r"tile \(0, 0, 0\)"):
        write_array(tmp_path / "a.flac", scene((1, 50, 50)), tile_size=20)
    assert list(tmp_path.iterdir()) == []
