"""Container bytes against bytes written by hand, and against damage."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.container import header_nbytes, pack_header, plan_layout, unpack_header
from flac_xarray.coords import Coord
from flac_xarray.errors import (
    CorruptTileError,
    FormatError,
    NotFlacRasterError,
    TruncatedError,
    UnsupportedVersionError,
)
from flac_xarray.georef import Gcp, Georef
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.tile_table import TileTable, check_overlap, tile_crc, unpack_table


def by_hand(
    obj: dict, rows: list[tuple[int, int, int]], *, file_nbytes: int = 0
) -> bytes:
    """Write the bytes before the tiles with nothing but struct, json and zlib."""
    text = json.dumps(obj, separators=(",", ":")).encode()
    text += b" " * (-(4 + len(text)) % 16)
    head = struct.pack(">I", len(text)) + text
    seal = (
        b"FXRS" + struct.pack("<I", zlib.crc32(head)) + struct.pack("<Q", file_nbytes)
    )
    table = b"".join(
        struct.pack("<Q", o) + struct.pack("<II", n, c) for o, n, c in rows
    )
    return head + seal + table


def minimal(table: int = 0, **changes: object) -> dict:
    array = {
        "name": "band_data",
        "dtype": "uint8",
        "dims": ["band", "y", "x"],
        "shape": [1, 4, 6],
        "tile": [1, 4, 4],
        "table": table,
    } | changes
    return {"format": "flacraster", "version": "1.0", "arrays": [array]}


def sealed(rows=((0, 0, 0), (0, 0, 0)), **changes: object) -> bytes:
    """A file by hand whose table offset is right."""
    table = 0
    while True:
        data = by_hand(minimal(table, **changes), list(rows))
        start = len(data) - 16 * len(rows)
        if start == table:
            return data
        table = start


def test_reads_a_file_written_by_hand():
    data = sealed(nodata=255)
    header, layout = unpack_header(data)
    (info,) = header.arrays
    assert (info.name, info.dtype, info.dims) == (
        "band_data",
        "uint8",
        ("band", "y", "x"),
    )
    assert (info.shape, info.tile, info.nodata) == ((1, 4, 6), (1, 4, 4), (255,))
    assert layout.counts == (2,)
    assert layout.data_start == len(data)
    assert layout.tables == (len(data) - 32,)


def test_writes_the_bytes_that_a_hand_writes():
    info = ArrayInfo("band_data", "uint8", ("band", "y", "x"), (1, 4, 6), (1, 4, 4))
    start = header_nbytes(Header((info,)))
    table = TileTable.build(0, [(start, 3, zlib.crc32(b"abc")), None])
    place = struct.pack("<I", 0) + struct.pack("<QQ", 0, start) + struct.pack("<I", 3)
    empty = struct.pack("<I", 0) + struct.pack("<QQ", 1, 0) + struct.pack("<I", 0)
    rows = [(start, 3, zlib.crc32(b"abc" + place)), (0, 0, zlib.crc32(empty))]
    expected = by_hand(minimal(start - 32), rows, file_nbytes=start + 3)
    assert pack_header(Header((info,)), [table], start + 3) == expected


def test_header_begins_with_its_name_and_tables_are_aligned():
    info = ArrayInfo("a", "float32", ("y", "x"), (10, 10), (3, 3))
    layout, text = plan_layout(Header((info,)))
    assert text.startswith(b'{"format":"flacraster","version":"1.0"')
    assert layout.tables[0] % 16 == 0
    assert layout.data_start == layout.tables[0] + 16 * 16


def full_header() -> Header:
    return Header(
        arrays=(
            ArrayInfo(
                "t", "float32", ("time", "y", "x"), (3, 5, 6), (1, 4, 4),
                nodata=(float("nan"),), attrs={"units": "K"}, extra={"later": [1]},
            ),
            ArrayInfo(
                "q", "int16", ("band", "y", "x"), (2, 5, 6), (2, 4, 4),
                nodata=(-1, None), bands=({"description": "ü"}, {}),
            ),
            ArrayInfo("t", "int8", ("time", "y", "x"), (3, 3, 3), (1, 4, 4), level=1),
            ArrayInfo("mask", "uint8", ("y", "x"), (5, 6), (4, 4), role="mask"),
        ),
        georef=Georef(
            "EPSG:4326", (0.1, 0, 5, 0, -0.1, 50),
            gcps=(Gcp(0.5, 1, 2, 3, None, "a", "b"),), gcps_crs="EPSG:4326",
            rpcs={"HEIGHT_OFF": 1.5},
        ),
        coords={
            "time": Coord(("time",), np.array([1, 2, 3], "M8[ns]"), {"a": 1}),
            "label": Coord(("time",), np.array(["x", "y", "z"], object)),
            "one": Coord((), np.array(2.5)),
        },
        attrs={"title": "x"},
        tags={"": {"AREA_OR_POINT": "Area"}, "NS": {"k": "v"}},
        extra={"future": {"a": 1}},
    )  # fmt: skip


def test_every_member_comes_back():
    header = full_header()
    tables = [
        TileTable.build(k, [None] * a.grid.n_tiles) for k, a in enumerate(header.arrays)
    ]
    data = pack_header(header, tables, 0)
    found, layout = unpack_header(data)
    assert found.georef == header.georef
    assert dict(found.coords) == dict(header.coords)
    assert found.coords["time"].values.dtype == np.dtype("M8[ns]")
    assert {k: dict(v) for k, v in found.tags.items()} == dict(header.tags)
    assert (dict(found.attrs), dict(found.extra)) == (
        {"title": "x"},
        {"future": {"a": 1}},
    )
    for a, b in zip(found.arrays, header.arrays, strict=True):
        assert (a.name, a.dtype, a.dims, a.shape, a.tile) == (
            b.name,
            b.dtype,
            b.dims,
            b.shape,
            b.tile,
        )
        assert repr(a.nodata) == repr(b.nodata)
        assert (a.level, a.role, dict(a.attrs)) == (b.level, b.role, dict(b.attrs))
        assert [dict(x) for x in a.bands] == [dict(x) for x in b.bands]
        assert dict(a.extra) == dict(b.extra)
    assert layout.data_start == len(data)


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_prefix_says_how_much_it_needs_or_is_enough(cut):
    data = sealed()
    found = unpack_header(data[:cut])
    if isinstance(found, int):
        assert cut < found <= len(data) - 32
    else:
        assert cut >= len(data) - 32


def test_newer_major_is_refused_and_newer_minor_read():
    newer = sealed().replace(b'"version":"1.0"', b'"version":"2.0"')
    with pytest.raises(UnsupportedVersionError, match="upgrade") as error:
        unpack_header(newer)
    assert error.value.found == "2.0"
    obj = minimal(0)
    obj["version"] = "1.7"
    table = len(by_hand(obj, []))
    obj["arrays"][0]["table"] = table
    while len(by_hand(obj, [])) != table:
        table = obj["arrays"][0]["table"] = len(by_hand(obj, []))
    header, _ = unpack_header(by_hand(obj, [(0, 0, 0)] * 2))
    assert header.arrays[0].name == "band_data"


@pytest.mark.parametrize(
    "data", [b"GIF89a" * 20, b"II*\0" * 20, b"\0" * 100, b"fLaC" * 20]
)
def test_other_files_are_not_flac_rasters(data):
    with pytest.raises(NotFlacRasterError) as error:
        unpack_header(data)
    assert error.value.found == data[:16]


def test_every_flipped_bit_before_the_table_is_found():
    data = sealed()
    file_nbytes = len(data) - 32 - 8  # where the seal's last field begins
    for byte in range(file_nbytes):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            try:
                found = unpack_header(bytes(damaged))
            except FormatError:
                continue
            assert isinstance(found, int), (
                byte,
                bit,
            )  # asks for bytes that are not there
            assert found > len(data)


BAD = {
    "shape not ints": {"shape": [1, 4.5, 6]},
    "shape negative": {"shape": [1, -4, 6]},
    "tile zero": {"tile": [1, 0, 4]},
    "dims repeated": {"dims": ["y", "y", "x"]},
    "dims too few": {"dims": ["y", "x"]},
    "dims not y x": {"dims": ["x", "band", "y"]},
    "unknown dtype": {"dtype": "float128"},
    "bool as int": {"level": True},
    "negative level": {"level": -1},
    "role": {"role": "x"},
    "nodata object": {"nodata": {}},
    "nodata count": {"nodata": [1, 2, 3]},
    "attrs list": {"attrs": []},
    "tile beyond the limit": {
        "shape": [1, 1 << 20, 1 << 20],
        "tile": [1, 1 << 20, 1 << 20],
    },
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_a_wrong_array_is_a_format_error(changes):
    with pytest.raises(FormatError):
        unpack_header(sealed(**changes))


def test_a_table_that_cannot_fit_the_file_is_refused_by_arithmetic():
    data = minimal(0, shape=[1, 1 << 40, 1 << 40])
    table = len(by_hand(data, []))
    data["arrays"][0]["table"] = table
    while len(by_hand(data, [])) != table:
        table = data["arrays"][0]["table"] = len(by_hand(data, []))
    with pytest.raises(FormatError, match="do not fit"):
        unpack_header(by_hand(data, [], file_nbytes=1000))


def test_rows_outside_the_file_are_refused():
    data = sealed()
    _, layout = unpack_header(data)
    start = layout.data_start

    def rows(*values):
        return b"".join(struct.pack("<QII", *v, 0) for v in values)

    unpack_table(rows((start, 10), (start + 10, 5)), start, file_nbytes=start + 15)
    with pytest.raises(TruncatedError, match="tile 1"):
        unpack_table(rows((start, 10), (start + 10, 5)), start, file_nbytes=start + 14)
    with pytest.raises(FormatError, match="tile 0"):
        unpack_table(rows((start - 1, 10), (0, 0)), start, file_nbytes=start + 99)
    with pytest.raises(FormatError, match="tile 1"):
        unpack_table(rows((start, 10), (7, 0)), start, file_nbytes=start + 99)
    with pytest.raises(FormatError, match="tile 1"):
        unpack_table(
            rows((start, 1), ((1 << 64) - 1, 10)), start, file_nbytes=start + 9
        )
    with pytest.raises(FormatError, match="overlap"):
        check_overlap([unpack_table(rows((start, 10), (start + 9, 5)), start)])


def test_a_row_protects_itself_and_its_tile():
    table = TileTable.build(0, [(1000, 5, zlib.crc32(b"tile0")), None, (1005, 5, 7)])
    table.check_tile(b"tile0", 0, 0)
    table.check_tile(b"", 0, 1)
    for data, array, number in ((b"tilE0", 0, 0), (b"tile0", 1, 0), (b"tile0", 0, 2)):
        with pytest.raises(CorruptTileError, match="damaged"):
            table.check_tile(data, array, number)
    for bit in range(128):
        flipped = bytearray(table.pack())
        flipped[bit // 8] ^= 1 << bit % 8
        rows = np.frombuffer(bytes(flipped), table.rows.dtype)
        with pytest.raises(CorruptTileError):
            TileTable(rows).check_tile(b"tile0" if rows[0]["nbytes"] else b"", 0, 0)
    missing = TileTable(np.zeros(1, table.rows.dtype))
    with pytest.raises(CorruptTileError, match="missing"):
        missing.check_tile(b"", 0, 0)
    assert tile_crc(0, 0, 1, 0, 0) == table.entry(1).crc32


@given(st.binary(max_size=300))
def test_any_bytes_give_a_value_or_a_format_error(data):
    for candidate in (data, sealed()[:40] + data, data + sealed()):
        try:
            found = unpack_header(candidate)
        except FormatError:
            continue
        assert isinstance(found, (int, tuple))


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),  # noqa: E501
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),  # noqa: E501
    max_leaves=12,
), st.sampled_from(
    ["arrays", "crs", "transform", "gcps", "rpcs", "coords", "attrs", "tags"]
))  # fmt: skip
def test_any_json_gives_a_value_or_a_format_error(value, member):
    obj = minimal() | {member: value}
    try:
        found = unpack_header(by_hand(obj, [(0, 0, 0)] * 2))
    except FormatError:
        return
    assert isinstance(found, tuple)


@given(st.sampled_from(["name", "dtype", "dims", "shape", "tile", "nodata", "bands", "level", "attrs"]),  # noqa: E501
       st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers() | st.text(max_size=2), max_size=4))  # noqa: E501  # fmt: skip
def test_any_array_member_gives_a_value_or_a_format_error(member, value):
    obj = minimal()
    obj["arrays"][0][member] = value
    try:
        unpack_header(by_hand(obj, [(0, 0, 0)] * 2))
    except FormatError:
        return
