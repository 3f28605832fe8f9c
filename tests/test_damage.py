"""Damage to a file on its way: found on reading, or harmless."""

from __future__ import annotations

import random
import struct
import zlib

import numpy as np
import pytest

from flac_xarray import flac_stream
from flac_xarray.array_writer import encode_array
from flac_xarray.errors import CorruptTileError, FormatError, TruncatedError
from flac_xarray.flac_frames import encode_samples
from flac_xarray.georef import Georef
from flac_xarray.reader import FlacRaster
from flac_xarray.validate import validate_raster
from tests.damage import check, cuts, flips, read
from tests.fuzz import files
from tests.fuzz.files import Parts
from tests.fuzz.seeds import FileSeed, file_seeds, tile_seeds
from tests.malformed import rows_at

SEEDS = {seed.name: seed for seed in file_seeds()}


@pytest.mark.parametrize("name", ["file float32"])
def test_every_flipped_bit_is_found(name):
    seed = SEEDS[name]
    bits = range(8 * len(seed.data))
    refused, harmless, wrong = check(seed, flips(seed.data, bits))
    assert wrong == []
    assert harmless == []
    assert refused == len(bits)


@pytest.mark.parametrize("name", SEEDS)
def test_a_flipped_bit_of_many_is_found(name):
    seed = SEEDS[name]
    rng = random.Random(1)  # noqa: S311 - seeded damage
    bits = [8 * byte + rng.randrange(8) for byte in range(0, len(seed.data), 9)]
    refused, harmless, wrong = check(seed, flips(seed.data, bits))
    assert (wrong, harmless, refused) == ([], [], len(bits))


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_cut_off_at_any_byte_is_refused(name):
    seed = SEEDS[name]
    refused, whole, wrong = check(seed, cuts(seed.data))
    assert (whole, wrong, refused) == ([], [], len(seed.data))


def test_a_cut_is_told_as_one():
    seed = SEEDS["file int16"]
    for stop in range(60, len(seed.data), 7):
        with pytest.raises(TruncatedError, match=r"truncated|ends"):
            FlacRaster.open(seed.data[:stop])


def tiled(seed: int = 0) -> bytes:
    """A file of 3 by 3 tiles whose pixels are noise."""
    pixels = np.random.default_rng(seed).integers(0, 200, (24, 24), "uint8")
    return encode_array(pixels, tile_size=8, crs="EPSG:4326")


def rows_of(data: bytes) -> list[tuple[int, int, int]]:
    at = rows_at(data)
    return [struct.unpack_from("<QII", data, at + 16 * k) for k in range(9)]


def with_rows(data: bytes, rows: list[tuple[int, int, int]]) -> bytes:
    packed = b"".join(struct.pack("<QII", *row) for row in rows)
    at = rows_at(data)
    return data[:at] + packed + data[at + len(packed) :]


def test_every_two_tiles_swapped_are_found():
    data = tiled()
    rows = rows_of(data)
    for a in range(9):
        for b in range(a):
            changed = list(rows)
            changed[a], changed[b] = rows[b], rows[a]
            with pytest.raises(CorruptTileError, match="damaged") as error:
                read(with_rows(data, changed))
            assert error.value.tile in {(a // 3, a % 3), (b // 3, b % 3)}
            report = validate_raster(with_rows(data, changed), full=True)
            assert len(report.errors) == 2


def test_tiles_of_one_length_swapped_in_the_file_are_found():
    # Their rows stay: each tile is whole, of the right length, in the other's place.
    tiles = [np.full((8, 8), k, "uint8") for k in range(9)]
    pixels = np.block([[tiles[3 * r + c] for c in range(3)] for r in range(3)])
    pixels[::8, ::8] += 100
    data = encode_array(pixels, tile_size=8)
    rows = rows_of(data)
    by_size = {n: k for k, (_, n, _) in enumerate(rows)}
    pairs = [(k, by_size[n]) for k, (_, n, _) in enumerate(rows) if by_size[n] != k]
    assert pairs
    for a, b in pairs:
        (one, n, _), (two, _, _) = rows[a], rows[b]
        out = bytearray(data)
        out[one : one + n], out[two : two + n] = (
            data[two : two + n],
            data[one : one + n],
        )
        with pytest.raises(CorruptTileError):
            read(bytes(out))


def test_a_tile_twice_is_found():
    data = tiled()
    rows = rows_of(data)
    # Two rows of the same bytes overlap ...
    with pytest.raises(FormatError, match="overlap"):
        read(with_rows(data, [rows[0], rows[0], *rows[2:]]))
    # ... and a second copy of a tile has the checksum of its first place.
    parts = Parts.unpack(data)
    tiles = parts.tiles[0]
    copied = files.pack_file(Parts(parts.obj, ((tiles[0], tiles[0], *tiles[2:]),)))
    good = rows_of(copied)
    crc = zlib.crc32(struct.pack("<IQQI", 0, 0, *good[0][:2]), zlib.crc32(tiles[0]))
    assert good[0][2] == crc
    with pytest.raises(CorruptTileError, match="damaged"):
        read(with_rows(copied, [good[0], (*good[1][:2], crc), *good[2:]]))


@pytest.mark.parametrize("shift", [-1, 1, -20, 20])
def test_overlapping_tiles_are_found(shift):
    data = tiled()
    rows = rows_of(data)
    offset, nbytes, crc = rows[4]
    changed = [*rows[:4], (offset + shift, nbytes, crc), *rows[5:]]
    with pytest.raises(FormatError, match="overlap"):
        read(with_rows(data, changed))


def test_every_tile_of_another_file_in_the_right_place_is_found():
    one, two = tiled(0), tiled(1)
    rows, other = rows_of(one), rows_of(two)
    for k in range(9):
        stream = two[other[k][0] : other[k][0] + other[k][1]]
        offset, nbytes, crc = rows[k]
        # As long as the first one's, or its row changed to its length.
        out = bytearray(one)
        out[offset : offset + nbytes] = stream.ljust(nbytes, b"\0")[:nbytes]
        with pytest.raises(CorruptTileError, match="damaged"):
            read(bytes(out))
        end = one + stream
        row = (len(one), len(stream), crc)
        grown = bytearray(with_rows(end, [*rows[:k], row, *rows[k + 1 :]]))
        seal = rows_at(one) - 8
        grown[seal : seal + 8] = struct.pack("<Q", len(grown))
        with pytest.raises(CorruptTileError, match="damaged"):
            read(bytes(grown))


def test_a_tile_with_a_right_checksum_must_still_fit():
    # Whoever can write checksums can write pixels; but not another shape or dtype.
    parts = Parts.unpack(tiled())
    wide = encode_array(np.arange(90, dtype="uint8").reshape(9, 10), tile_size=16)
    signed = encode_array(np.arange(64, dtype="int8").reshape(8, 8), tile_size=8)
    for other, word in ((wide, "expected uint8"), (signed, "expected uint8")):
        stream = Parts.unpack(other).tiles[0][0]
        made = files.pack_file(Parts(parts.obj, ((stream, *parts.tiles[0][1:]),)))
        with pytest.raises(CorruptTileError, match=word):
            read(made)
        assert not validate_raster(made, full=True).ok


BARE = {s.name: s.stream.pack() for s in tile_seeds()}


@pytest.mark.parametrize("name", ["uint8 classes:6", "float64 order up packed"])
def test_damage_to_a_sealed_tile_is_found(name):
    """Also in its comments and its side data, which FLAC's checksums leave out."""
    plain = BARE[name]
    sealed = flac_stream.seal_stream(plain)
    assert len(sealed) == len(plain) + 29
    assert read(sealed) == read(plain)
    assert flac_stream.seal_stream(sealed) == sealed
    at = sealed.index(b"GEOSPATIAL_CRC32=")
    names = range(8 * at, 8 * (at + 17))
    bits = range(8 * len(sealed))
    refused, harmless, wrong = check(sealed_seed(sealed), flips(sealed, bits))
    assert wrong == []
    # Where the checksum has lost its name, all else is whole.
    assert {int(bit.split()[1]) for bit in harmless} <= set(names)
    assert refused + len(harmless) == len(bits)
    _, _, wrong = check(sealed_seed(plain), flips(plain, range(8 * len(plain))))
    assert wrong


def sealed_seed(data: bytes) -> FileSeed:
    return FileSeed("bare", data, Parts({}, ()), b"", (), Georef())


def test_a_tile_is_cut_out_with_a_seal():
    with FlacRaster.open(tiled()) as raster:
        plain = raster.read_tile_bytes((1, 2))
        sealed = raster.read_tile_bytes((1, 2), seal=True)
    assert sealed == flac_stream.seal_stream(plain) != plain


@pytest.mark.parametrize("digits", [b"ABCDEF01", b"0x123456", b"        "])
def test_a_seal_is_eight_digits(digits):
    sealed = flac_stream.seal_stream(BARE["int16"])
    at = sealed.index(b"GEOSPATIAL_CRC32=") + 17
    broken = sealed[:at] + digits + sealed[at + 8 :]
    with pytest.raises(CorruptTileError, match="damaged"):
        read(broken)


def test_a_stream_without_comments_has_no_place_for_a_seal():
    info, frames = encode_samples(np.arange(40, dtype="int16"), 16)
    with pytest.raises(FormatError, match="without comments"):
        flac_stream.seal_stream(flac_stream.pack_stream(info, [], frames))
