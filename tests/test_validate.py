"""What validation finds, and that it finds it without raising."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flac_xarray.array_writer import encode_array
from flac_xarray.container import pack_header, unpack_header
from flac_xarray.errors import SourceError
from flac_xarray.grid import Window
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.reader import FlacRaster
from flac_xarray.scenes import terrain_scene
from flac_xarray.sinks import MemorySink
from flac_xarray.tile_codec import encode_tile
from flac_xarray.tile_table import ENTRY, tile_crc
from flac_xarray.validate import MOST_FINDINGS, validate_raster
from flac_xarray.writer import FlacRasterWriter
from tests.test_legacy import INDEXED


@pytest.fixture(scope="module")
def data():
    pixels = terrain_scene(100, 90).pixels
    pixels[:, :32, :32] = 0  # one empty tile
    return encode_array(pixels, tile_size=32, crs="EPSG:4326")


def test_a_whole_file(data):
    ok, errors, warnings = validate_raster(data, full=True)
    assert (ok, errors, warnings) == (True, (), ())
    assert validate_raster(data, full=True).n_tiles == 4 * 3 - 1
    assert validate_raster(data).n_tiles == 0


def test_progress_counts_pixel_bytes(data):
    done = []
    validate_raster(data, full=True, progress=done.append, threads=2)
    assert sum(done) == (100 * 90 - 32 * 32) * 2


@pytest.mark.parametrize("threads", [1, 2])
def test_every_damaged_tile_is_named(data, threads):
    with FlacRaster.open(data) as raster:
        entries = raster.index.lookup(0, range(12))
    damaged = bytearray(data)
    for number in (3, 7):
        damaged[entries[number].stop - 20] ^= 0x10
    report = validate_raster(bytes(damaged), full=True, threads=threads)
    assert not report.ok
    assert [error.split(":")[0] for error in report.errors] == [
        f"tile {index} of array 'band_data', byte {entries[number].offset}"
        for number, index in ((3, (0, 1, 0)), (7, (0, 2, 1)))
    ]
    assert validate_raster(bytes(damaged)).ok


def test_findings_are_limited():
    pixels = np.random.default_rng(0).integers(0, 99, (30, 30), "uint8")
    data = bytearray(encode_array(pixels, tile_size=2))
    with FlacRaster.open(bytes(data)) as raster:
        for entry in raster.index.lookup(0, range(225)):
            data[entry.stop - 1] ^= 1
    report = validate_raster(bytes(data), full=True)
    assert len(report.errors) == MOST_FINDINGS + 1
    assert report.errors[-1] == "... and 125 more"


def row_at(data, number):
    """Byte offset of a row of the only table."""
    _, layout = unpack_header(data[:4096])
    return layout.tables[0] + number * ENTRY.size


def with_row(data, number, offset, nbytes, crc):
    start = row_at(data, number)
    row = struct.pack("<QII", offset, nbytes, crc)
    return data[:start] + row + data[start + ENTRY.size :]


def test_a_tile_that_was_never_written(data):
    report = validate_raster(with_row(data, 0, 0, 0, 0))
    assert not report.ok
    assert "missing" in report.errors[0]


def test_an_empty_tile_with_a_wrong_checksum(data):
    report = validate_raster(with_row(data, 0, 0, 0, 5))
    assert not report.ok
    assert "damaged" in report.errors[0]


def test_bytes_that_nobody_claims():
    sink = MemorySink()
    header = Header((ArrayInfo("a", "uint8", ("y", "x"), (4, 4), (4, 4)),))
    with FlacRasterWriter(sink, header) as writer:
        writer.write(np.eye(4, dtype="uint8"))
        writer._next += 10  # noqa: SLF001 - a writer that left a gap at the end
        sink.put(bytes(10), writer._next - 10)  # noqa: SLF001
    report = validate_raster(sink.value, full=True)
    assert report.ok
    assert report.warnings == ("10 bytes between or behind the tiles are of no use",)


def with_last_tile(data, make):
    """The file with another stream as its last tile, checksums right.

    `make` gets the tile's pixels and its stream.
    """
    with FlacRaster.open(data) as raster:
        header, layout = raster.header, raster.index.layout
        table = raster.index.table(0, 11)
        stream = make(
            raster.read(Window(96, 64, 4, 26)), data[table.entry(11).offset :]
        )
        start = table.entry(11).offset
    rows = table.rows.copy()
    crc = tile_crc(zlib.crc32(stream), 0, 11, start, len(stream))
    rows[11] = (start, len(stream), crc)
    head = pack_header(header, [type(table)(rows)], start + len(stream))
    return head + data[layout.data_start : start] + stream


def test_a_tile_whose_comments_tell_another_place(data):
    comments = {"GEOSPATIAL_CRS": "EPSG:9999"}
    changed = with_last_tile(
        data, lambda tile, _: encode_tile(tile, dtype="int16", comments=comments)
    )
    assert validate_raster(changed).ok
    report = validate_raster(changed, full=True)
    assert any("GEOSPATIAL_CRS is 'EPSG:9999'" in error for error in report.errors)
    assert any("GEOSPATIAL_BOUNDS is None" in error for error in report.errors)


MD5 = slice(26, 42)
"""In a stream: behind magic, block header and 18 bytes of STREAMINFO (RFC 9639)."""


def test_a_tile_with_a_wrong_md5(data):
    def spoil(_, stream):
        return stream[: MD5.start] + bytes(range(16)) + stream[MD5.stop :]

    report = validate_raster(with_last_tile(data, spoil), full=True)
    assert len(report.errors) == 1
    assert "MD5" in report.errors[0]


def test_a_tile_without_md5(data):
    def drop(_, stream):
        return stream[: MD5.start] + bytes(16) + stream[MD5.stop :]

    report = validate_raster(with_last_tile(data, drop), full=True)
    assert report.ok
    assert report.warnings == ("1 tile has no MD5 of its samples",)


def test_a_bare_tile(data):
    with FlacRaster.open(data) as raster:
        tile = raster.read_tile_bytes((0, 1, 1))
    report = validate_raster(tile, full=True)
    assert (report.ok, report.n_tiles) == (True, 1)
    assert report.warnings == (
        "array 'band_data': the file holds no checksums of its tiles",
    )
    spoilt = tile[: MD5.start] + bytes(range(16)) + tile[MD5.stop :]
    assert not validate_raster(spoilt, full=True).ok


def test_a_file_of_another_writer():
    report = validate_raster(INDEXED["frames"], full=True)
    assert (report.ok, report.n_tiles) == (True, 6)
    assert report.warnings == (
        "array 'band_data': the file holds no checksums of its tiles",
    )
    # Without its last bytes, the last tile does not decode.
    cut = INDEXED["frames"][:-50] + bytes(50)
    report = validate_raster(cut, full=True)
    assert len(report.errors) == 1
    assert "(0, 1, 2)" in report.errors[0]


def test_what_is_no_flac_raster():
    report = validate_raster(b"II*\0" + bytes(100))
    assert not report.ok
    assert "not a FLAC raster" in report.errors[0]


def test_what_cannot_be_read_is_raised(tmp_path):
    with pytest.raises(SourceError):
        validate_raster(tmp_path / "none.flac")


@settings(max_examples=60)
@given(cut=st.integers(0, 5000), flips=st.lists(st.integers(0, 5000), max_size=3))
def test_any_damage_is_found_and_nothing_is_raised(cut, flips):
    pixels = np.arange(900, dtype="int16").reshape(30, 30) % 37
    data = encode_array(pixels, tile_size=10, crs="EPSG:4326")
    damaged = bytearray(data)
    for flip in flips:
        damaged[flip % len(data)] ^= 1
    damaged = damaged[: max(1, len(data) - cut % len(data))]
    report = validate_raster(bytes(damaged), full=True)
    assert report.ok == (damaged == data)
