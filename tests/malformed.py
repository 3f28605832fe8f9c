"""Malformed files with telling names, each made from a good one by one change.

Strategy: nothing binary is kept: `CORPUS` maps a name to the bytes and to a word that
the error's message must hold, so that a file is refused for its own fault and not for
another. Where checksums are not the fault they are right.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flac_xarray.transforms.plan import Plan
from tests.fuzz import files
from tests.fuzz.files import Parts, Stream
from tests.fuzz.seeds import FileSeed, encode_with, file_seeds, scene


@dataclass(frozen=True, slots=True)
class Malformed:
    """One file."""

    data: bytes
    """Its bytes."""
    word: str
    """What the message of its error says (a regular expression)."""


Case = tuple[str, bytes, str]


def good(name: str = "file int16") -> FileSeed:
    return next(seed for seed in file_seeds() if seed.name == name)


def with_json(change: Callable[[Any], Any], name: str = "file int16") -> bytes:
    """A good file whose JSON was changed in place; checksums are right."""
    seed = good(name)
    obj = json.loads(seed.text)
    for array in obj["arrays"]:
        array["table"] = -1
    made = change(obj)
    return files.pack_file(replace(seed.parts, obj=obj if made is None else made))


def with_array(**members: Any) -> bytes:
    return with_json(lambda obj: obj["arrays"][0].update(members))


def with_text(text: bytes) -> bytes:
    return files.pack_file(good().parts, text)


def with_tile(stream: bytes, name: str = "file int16") -> bytes:
    """A good file with another stream as its first tile; checksums are right."""
    parts = good(name).parts
    tiles = ((stream, *parts.tiles[0][1:]), *parts.tiles[1:])
    return files.pack_file(replace(parts, tiles=tiles))


def with_row(offset: int, nbytes: int) -> bytes:
    return files.pack_file(replace(good().parts, rows={(0, 1): (offset, nbytes)}))


FIRST = (1, 8, 8)
"""Shape of the first tile."""


def tile(plan: str = "up", dtype: str = "int16", pixels: Any = None) -> Stream:
    """The first tile of a good file, by a plan of ours."""
    whole = scene(dtype, (1, 9, 11)) if pixels is None else pixels
    return encode_with(np.ascontiguousarray(whole[:, :8, :8]), dtype, Plan.unpack(plan))


def commented(plan: str = "up", dtype: str = "int16", **comments: str | None) -> bytes:
    """The first tile with other comments; None leaves one out."""
    stream = tile(plan, dtype)
    pairs = files.unpack_comments(stream.payload(4) or b"")
    changed = [
        (name, comments.get(name.removeprefix("GEOSPATIAL_"), text))
        for name, text in pairs
    ]
    known = {name.removeprefix("GEOSPATIAL_") for name, _ in pairs}
    changed += [(f"GEOSPATIAL_{k}", v) for k, v in comments.items() if k not in known]
    payload = files.pack_comments([(n, t) for n, t in changed if t is not None])
    return stream.with_payload(4, payload).pack()


def sided(plan: str, change: Callable[[list[Any]], Any], dtype: str = "int16") -> bytes:
    """The first tile with side data whose pieces were changed in place."""
    stream = tile(plan, dtype)
    pieces = files.unpack_pieces((stream.payload(2) or b"FXRS")[4:])
    change(pieces)
    side = b"FXRS" + files.pack_pieces(pieces)
    return stream.with_payload(2, side).pack()


def stored(content: bytes) -> tuple[int, int, int, int, int, bytes]:
    return 0, 0, 0, len(content), len(content), content


def with_info(**fields: int) -> bytes:
    """The first tile with another STREAMINFO."""
    stream = tile()
    packed = int.from_bytes(stream.info[10:18], "big")
    now = {
        "rate": packed >> 44,
        "channels": (packed >> 41 & 7) + 1,
        "bits": (packed >> 36 & 31) + 1,
        "total": packed & (1 << 36) - 1,
    } | fields
    packed = now["rate"] << 44 | (now["channels"] - 1) << 41
    packed |= (now["bits"] - 1) << 36 | now["total"]
    sizes = stream.info[:4]
    if "max_blocksize" in fields:
        sizes = sizes[:2] + fields["max_blocksize"].to_bytes(2, "big")
    info = sizes + stream.info[4:10] + packed.to_bytes(8, "big") + stream.info[18:]
    return replace(stream, info=info).pack()


def framed(change: Callable[[bytearray, int], Any], *, mended: bool = True) -> bytes:
    """The first tile with its one frame changed in place, FLAC's checksums mended."""
    stream = tile()
    starts, heads = files.frame_starts(stream.frames)
    assert len(starts) == 1
    frames = bytearray(stream.frames)
    change(frames, heads[0])
    frames = files.mend_frames(bytes(frames), starts, heads) if mended else frames
    return replace(stream, frames=bytes(frames)).pack()


def bomb(nbytes: int) -> str:
    """Base64 of a zlib stream that inflates to so many zero bytes."""
    return base64.b64encode(zlib.compress(bytes(nbytes), 9)).decode()


def coordinate(**members: Any) -> bytes:
    """A file with one coordinate."""
    base = {"dims": ["n"], "shape": [2], "dtype": "<f8"}
    base["data"] = base64.b64encode(zlib.compress(bytes(16))).decode()
    return with_json(lambda obj: obj.update(coords={"c": base | members}))


def header_cases() -> Iterator[Case]:
    data = good().data
    yield "empty", b"", "ends in|not a FLAC"
    yield "one-byte", b"\0", "ends in|not a FLAC"
    yield "length-alone", data[:4], "ends in|not a FLAC"
    yield "magic-alone", data[:38], "ends in|truncated"
    yield "zeros", bytes(1000), "not a FLAC raster"
    yield "tiff", b"II*\0" + bytes(1000), "not a FLAC raster"
    yield "zip", b"PK\3\4" + bytes(1000), "not a FLAC raster"
    yield "text", b"<!DOCTYPE html><html>404</html>" * 9, "not a FLAC raster"
    yield "length-zero", bytes(4) + data[4:], "damaged"
    yield "length-beyond-the-file", struct.pack(">I", 99999) + data[4:], "ends in"
    yield "length-of-4-GiB", struct.pack(">I", 2**32 - 1) + data[4:], "above the limit"
    yield "version-2", data.replace(b'"1.0"', b'"2.0"', 1), "upgrade"
    yield "version-text", with_text(b'{"format":"flacraster","version":"x"}'), "upgrade"
    nbytes = struct.unpack_from(">I", data)[0]
    seal = 4 + nbytes
    yield "seal-without-magic", data[:seal] + b"XXXX" + data[seal + 4 :], "damaged"
    yield (
        "seal-with-another-crc",
        data[: seal + 4] + bytes(4) + data[seal + 8 :],
        ("damaged"),
    )
    start = b'{"format":"flacraster","version":"1.0"'
    yield "json-cut-off", with_text(start), "does not parse"
    yield "json-not-utf-8", with_text(start + b',"a":"\xff"}'), "does not parse"
    yield "json-of-nan", with_text(start + b',"a":NaN,"arrays":[]}'), "not JSON"
    yield (
        "json-nested-a-million-times",
        with_text(start + b',"a":' + b"[" * 10**6),
        ("does not parse"),
    )
    yield (
        "json-number-of-a-million-digits",
        with_text(start + b',"a":' + b"9" * 10**6 + b"}"),
        "does not parse",
    )


def array_cases() -> Iterator[Case]:
    start = b'{"format":"flacraster","version":"1.0"'
    yield "arrays-absent", with_text(start + b"}"), "arrays"
    yield "arrays-empty", with_text(start + b',"arrays":[]}'), "no array"
    yield "arrays-a-number", with_text(start + b',"arrays":7}'), "does not parse"
    yield "array-null", with_text(start + b',"arrays":[null]}'), "does not parse"
    yield (
        "array-without-dtype",
        with_json(lambda o: o["arrays"][0].__delitem__("dtype")),
        ("dtype"),
    )
    yield (
        "array-twice",
        with_json(lambda o: o["arrays"].append(o["arrays"][0])),
        ("twice|table"),
    )
    yield "array-only-of-level-1", with_array(level=1), "level 0"
    yield "array-only-a-mask", with_array(role="mask", dtype="uint8"), "level 0"
    yield "dims-not-ending-in-y-x", with_array(dims=["band", "x", "y"]), "must end"
    yield "dims-of-another-number", with_array(dims=["y", "x"]), "do not name"
    yield "shape-negative", with_array(shape=[1, -9, 11]), "out of range"
    yield "shape-of-floats", with_array(shape=[1, 9.0, 11]), "expected int"
    yield (
        "shape-beyond-any-integer",
        with_array(shape=[1, 10**30, 10**30]),
        ("do not fit|above"),
    )
    yield "tile-zero", with_array(tile=[1, 0, 8]), "out of range"
    yield (
        "tile-of-terabytes",
        with_array(shape=[1, 2**20, 2**20], tile=[1] + [2**20] * 2),
        ("above the limit"),
    )
    yield (
        "table-of-terabytes",
        with_array(shape=[1, 2**20, 2**20], tile=[1, 1, 1]),
        ("do not fit"),
    )
    yield "table-elsewhere", with_array(table=16), "expected"
    yield "dtype-unknown", with_array(dtype="float128"), "dtype"
    yield "nodata-of-two-bands-for-one", with_array(nodata=[1, 2, 3]), "nodata"
    yield "bands-of-two-for-one", with_array(bands=[{}, {}]), "bands"
    for name, band in (
        ("description-a-number", {"description": 5}),
        ("units-a-list", {"units": ["m"]}),
        ("colorinterp-a-number", {"colorinterp": -5}),
        ("colormap-null", {"colormap": None}),
        ("scale-text", {"scale": "x"}),
        ("offset-beyond-floats", {"offset": 10**400}),
        ("tags-a-list", {"tags": [["a", "b"]]}),
        ("tags-without-a-namespace", {"tags": {"a": "b"}}),
        ("tags-of-numbers", {"tags": {"": {"a": 1}}}),
    ):
        yield f"band-{name}", with_array(bands=[band]), "a band of array"
    dims = [*(f"d{k}" for k in range(63)), "y", "x"]
    ones = [1] * 63
    yield (
        "dims-more-than-numpy-has",
        with_array(dims=dims, shape=[*ones, 9, 11], tile=[*ones, 8, 8]),
        "65 dims",
    )
    yield "gdal-a-list", with_json(lambda o: o.update(gdal=[1])), "gdal"
    yield "role-unknown", with_array(role="alpha"), "role"


def georef_cases() -> Iterator[Case]:
    yield (
        "transform-of-five",
        with_json(lambda o: o.update(transform=[1] * 5)),
        ("georeference"),
    )
    yield (
        "transform-beyond-floats",
        with_json(lambda o: o.update(transform=[10**400] * 6)),
        "georeference",
    )
    yield "crs-a-number", with_json(lambda o: o.update(crs=4326)), "georeference"
    for name, crs in (
        ("definitions", "+proj=longlat +init=/etc/passwd:1"),
        ("definitions-above", "+init=a/../../secret:1"),
        ("json", '{"init": "/etc/passwd:1"}'),
        ("grids", "+proj=longlat +nadgrids=@null,~/grid +type=crs"),
        ("url", "+proj=longlat +geoidgrids=https://127.0.0.1/grid"),
        ("wkt", 'GEOGCS["a",DATUM["b",EXTENSION["PROJ4_GRIDS","@/etc/passwd"]]]'),
    ):
        yield (
            f"crs-{name}-in-a-file",
            with_json(lambda o, c=crs: o.update(crs=c)),
            "file",
        )
    yield (
        "gcps-crs-in-a-file",
        with_json(lambda o: o.update(gcps={"points": [], "crs": "+init=/a:1"})),
        "names a file",
    )
    yield (
        "gcps-of-two-numbers",
        with_json(lambda o: o.update(gcps={"points": [[1, 2]]})),
        ("georeference"),
    )
    yield "tags-of-numbers", with_json(lambda o: o.update(tags={"": {"a": 1}})), "tags"
    yield "coordinate-of-another-shape", coordinate(shape=[3]), "expected 24"
    yield "coordinate-of-terabytes", coordinate(shape=[2**40]), "above the limit"
    yield "coordinate-that-inflates-further", coordinate(data=bomb(1 << 24)), "expected"
    yield "coordinate-not-base64", coordinate(data="!"), "does not parse"
    yield "coordinate-of-objects", coordinate(dtype="|O"), "dtype"
    yield "coordinate-dtype-an-expression", coordinate(dtype="i4,("), "dtype"
    yield "coordinate-dtype-of-gigabytes", coordinate(dtype="S1000000000"), "dtype"
    # One that is whole, and one that the first leaves no room for.
    sizes = {"a": 8 << 20, "b": 250 << 20}
    coords = {
        name: {"dims": [name], "shape": [n], "dtype": "|u1", "data": bomb(8 << 20)}
        for name, n in sizes.items()
    }
    yield (
        "coordinates-of-too-much-together",
        with_json(lambda o: o.update(coords=coords)),
        "above the limit",
    )


def table_cases() -> Iterator[Case]:
    data, size = good().data, len(good().parts.tiles[0][0])
    whole = sum(map(len, good().parts.tiles[0]))
    yield "row-beyond-the-end", with_row(whole, 10), "ends at byte"
    yield "row-one-byte-beyond-the-end", with_row(whole - 99, 100), "ends at byte"
    yield "row-in-the-header", with_row(-100, 50), "lies outside"
    yield "row-at-the-end-of-64-bits", with_row(2**64 - 600, 100), "lies outside|ends"
    yield "row-of-4-GiB", with_row(size, 2**32 - 1), "ends at byte"
    yield "row-over-its-neighbour", with_row(size - 1, 50), "overlap"
    yield "rows-of-the-same-bytes", with_row(0, size), "overlap"
    yield "row-empty-with-an-offset", with_row(7, 0), "lies outside"
    yield "row-of-zeros", zero_row(data), "missing"
    yield "row-with-another-crc", flip(data, -whole - 1), "damaged"
    yield "tile-damaged", flip(data, -40), "damaged"
    yield "tiles-swapped", swapped(), "damaged"
    yield "tile-of-another-file", foreign(), "damaged"
    yield "tile-cut-off", data[:-1], "truncated"
    yield "tiles-cut-off", data[:-whole], "truncated"
    yield "garbage-behind", data + b"x", "appended"
    yield (
        "seal-of-another-size",
        files.pack_file(replace(good().parts, file_nbytes=len(data) + 1)),
        "truncated",
    )


def flip(data: bytes, at: int) -> bytes:
    out = bytearray(data)
    out[at] ^= 0x10
    return bytes(out)


def rows_at(data: bytes) -> int:
    return 4 + struct.unpack_from(">I", data)[0] + 16


def zero_row(data: bytes) -> bytes:
    at = rows_at(data)
    return data[:at] + bytes(16) + data[at + 16 :]


def swapped() -> bytes:
    """Two rows exchanged: each tile is whole, in the other's place."""
    data = good().data
    at = rows_at(data)
    one, two = data[at : at + 16], data[at + 16 : at + 32]
    return data[:at] + two + one + data[at + 32 :]


def foreign() -> bytes:
    """A tile of another file of the same size and place, its row left as it was."""
    data = good().data
    offset, nbytes, _ = struct.unpack_from("<QII", data, rows_at(data))
    pixels = scene("int16", FIRST)
    pixels[0, 5, 5] += 1
    other = tile(pixels=pixels).pack()
    return data[:offset] + other.ljust(nbytes, b"\0")[:nbytes] + data[offset + nbytes :]


def stream_cases() -> Iterator[Case]:
    whole = tile().pack()
    yield "tile-no-flac", with_tile(b"RIFF" + bytes(300)), "not a FLAC stream"
    yield "tile-of-four-bytes", with_tile(b"fLaC"), "ends at byte"
    yield (
        "tile-without-frames",
        with_tile(replace(tile(), frames=b"").pack()),
        ("too few|damaged"),
    )
    yield (
        "tile-with-garbage-for-frames",
        with_tile(replace(tile(), frames=bytes(200)).pack()),
        "no frame",
    )
    yield (
        "tile-with-a-block-beyond-its-end",
        with_tile(whole[:4] + b"\x00\xff\xff\xff" + whole[8:]),
        "ends at byte",
    )
    yield (
        "tile-without-streaminfo",
        with_tile(b"fLaC" + b"\x84" + whole[5:8] + whole[8:]),
        "type 4",
    )
    twice = replace(tile(), blocks=((0, tile().info), *tile().blocks))
    yield "tile-with-two-streaminfos", with_tile(twice.pack()), "type 0"
    yield (
        "tile-without-comments",
        with_tile(replace(tile(), blocks=()).pack()),
        ("without the comment"),
    )
    yield (
        "comment-beyond-its-block",
        with_tile(
            tile().with_payload(4, struct.pack("<III", 0, 1, 99) + b"A=b").pack()
        ),
        "leaves its block",
    )
    yield (
        "comments-four-billion",
        with_tile(tile().with_payload(4, struct.pack("<II", 0, 2**32 - 1)).pack()),
        "damaged VORBIS",
    )
    yield (
        "comment-not-utf-8",
        with_tile(
            tile().with_payload(4, struct.pack("<III", 0, 1, 3) + b"A=\xff").pack()
        ),
        "damaged VORBIS",
    )
    for name, comments, word in (
        ("dtype-of-another", {"DTYPE": "int8"}, "expected int16"),
        ("dtype-unknown", {"DTYPE": "int7"}, "dtype"),
        ("dtype-absent", {"DTYPE": None}, "without the comment"),
        ("height-of-another", {"HEIGHT": "9"}, "expected int16"),
        ("height-negative", {"HEIGHT": "-8"}, "shape"),
        ("height-zero", {"HEIGHT": "0"}, "expected 1 to"),
        ("shape-of-terabytes", {"SHAPE": "1,1000000,1000000"}, "expected 1 to"),
        ("shape-of-a-million-dims", {"SHAPE": "1," * 10**6 + "1"}, "shape"),
        ("transform-unknown", {"TRANSFORMS": "rot13"}, "unknown"),
        ("transforms-out-of-order", {"TRANSFORMS": "up order"}, "unknown here"),
        ("transform-twice", {"TRANSFORMS": "up lift"}, "unknown here"),
        ("void-of-another-size", {"TRANSFORMS": "void:00000000 up"}, "side data|void"),
        ("fill-of-another-size", {"TRANSFORMS": "fill:00"}, "samples|fill"),
        ("scale-by-nothing", {"TRANSFORMS": "scale:i2,/0"}, "positive"),
        ("scale-not-a-number", {"TRANSFORMS": "scale:i2,/nan"}, "positive"),
        ("offset-of-objects", {"TRANSFORMS": "offset:O,1"}, "expected one of"),
        ("bands-in-a-circle", {"TRANSFORMS": "bands:1,0"}, "circle"),
        ("bands-beyond-the-planes", {"TRANSFORMS": "bands:9"}, "circle"),
        ("bands-for-other-planes", {"TRANSFORMS": "bands:-,0 up"}, "2 bands for 1"),
        ("palette-without-side-data", {"TRANSFORMS": "palette:u1 up"}, "side data"),
        ("runs-without-side-data", {"TRANSFORMS": "up runs:apart"}, "side data"),
    ):
        yield f"tile-{name}", with_tile(commented(**comments)), word


def sample_cases() -> Iterator[Case]:
    for name, fields, word in (
        ("no-samples", {"total": 0}, "expected 64"),
        ("one-sample-more", {"total": 65}, "expected 64"),
        ("samples-of-terabytes", {"total": 2**36 - 1}, "expected 64"),
        ("two-channels", {"channels": 2}, "expected|channels"),
        ("other-bits", {"bits": 24}, "another sample size"),
        ("three-bits", {"bits": 3}, "STREAMINFO is out of range"),
        ("blocks-of-16", {"max_blocksize": 16}, "longer than STREAMINFO"),
    ):
        yield f"tile-of-{name}", with_tile(with_info(**fields)), word

    def damage(at: int, value: int) -> Callable[[bytearray, int], Any]:
        """Set a byte behind the frame's header."""
        return lambda frame, head: frame.__setitem__(head + at, value)

    for name, change, word in (
        ("subframe-reserved", damage(0, 0x06), "unknown type"),
        ("subframe-without-zero-bit", damage(0, 0x80), "zero bit"),
        ("order-beyond-the-block", damage(0, 0x7E), "damaged"),
        ("codes-that-never-end", lambda f, h: zero(f, h + 4), "damaged"),
    ):
        yield f"frame-{name}", with_tile(framed(change)), word
    for name, at, word in (("header", 4, "header"),):
        made = framed(lambda f, _, at=at: f.__setitem__(at, f[at] ^ 1), mended=False)
        yield f"frame-{name}-with-another-crc", with_tile(made), word
    cut = replace(tile(), frames=tile().frames[:-1]).pack()
    yield "frame-cut-off", with_tile(cut), "end|CRC"


def zero(frame: bytearray, start: int) -> None:
    frame[start:-2] = bytes(len(frame) - 2 - start)


def side_cases() -> Iterator[Case]:
    def put(k: int, piece: Any) -> Callable[[list[Any]], Any]:
        return lambda pieces: pieces.__setitem__(k, piece)

    void, runs = "void:0700 up", "up runs:apart"
    for name, plan, change, word in (
        ("of-4-GiB", void, put(0, (1, 0, 0, 2**32 - 1, 2, b"\3\0")), "expected 0 to"),
        ("packed-beyond-its-end", void, put(0, (0, 0, 0, 9, 99, b"x" * 9)), "expected"),
        ("of-an-unknown-method", void, put(0, (3, 0, 0, 9, 9, b"x" * 9)), "method 3"),
        ("deflate-damaged", void, put(0, (1, 0, 0, 9, 9, b"\xff" * 9)), "unpack"),
        ("lzma-damaged", void, put(0, (2, 0, 0, 9, 9, b"\xff" * 9)), "unpack|expected"),
        ("lzma-properties", void, put(0, (2, 255, 0, 9, 9, b"x" * 9)), "properties"),
        (
            "inflating-further", void,
            put(0, (1, 0, 0, 9, 33, zlib.compress(bytes(1 << 20))[2:35])),
            "unpack|mask",
        ),
        ("mask-too-short", void, put(0, stored(b"\1\2")), "pixels"),
        ("mask-too-long", void, put(0, stored(b"\x40\x40")), "pixels"),
        ("mask-of-too-many-runs", void, put(0, stored(bytes(66))), "expected 0 to"),
        ("runs-too-short", runs, put(0, stored(bytes(27))), "runs hold"),
        ("runs-too-long", runs, put(0, stored(b"\x80" * 27)), "runs hold"),
        ("runs-none", runs, put(0, stored(b"")), "expected 1 to|runs hold"),
        ("gaps-outside", "up sparse", put(0, stored(b"\x80" * 44)), "of 64"),
        ("palette-empty", "palette:u1 up", put(0, stored(b"")), "expected|palette"),
        ("palette-too-short", "palette:u1 up", put(0, stored(b"\1\0")), "palette"),
        ("palette-of-odd-bytes", "palette:u1 up", put(0, stored(b"\1\0\1")), "cut off"),
        ("absent", "up packed", list.clear, "ends before"),
        ("cut-off", "up packed", list.pop, "ends before"),
    ):  # fmt: skip
        yield f"side-data-{name}", with_tile(sided(plan, change)), word
    two = np.full((1, 9, 11), 2, "uint8")
    two[0, 0, 0] = 1
    stream = Stream.unpack(tile("up", "uint8", two).pack())
    pairs = files.unpack_comments(stream.payload(4) or b"")
    pairs = [(n, "bool" if n.endswith("DTYPE") else t) for n, t in pairs]
    stream = stream.with_payload(4, files.pack_comments(pairs))
    yield "tile-of-bools-beyond-1", with_tile(stream.pack(), "file bool"), "bool"


CORPUS: dict[str, Malformed] = {}
for _make in (
    header_cases,
    array_cases,
    georef_cases,
    table_cases,
    stream_cases,
    sample_cases,
    side_cases,
):
    for _name, _data, _word in _make():
        assert _name not in CORPUS, _name
        CORPUS[_name] = Malformed(_data, _word)

ENGINE_ONLY: dict[str, Malformed] = {
    "crs-of-nowhere": Malformed(
        with_json(lambda o: o.update(crs="EPSG:x")), "not understood"
    ),
    "crs-not-unicode": Malformed(
        with_json(lambda o: o.update(crs="\ud800")), "not understood"
    ),
    "array-named-like-its-dim": Malformed(with_array(name="band"), "no dataset"),
    "strings-of-gigabytes": Malformed(
        with_json(
            lambda o: o["coords"]["label"]["encoding"].update(dtype="<U99999999"),
            "file dataset",
        ),
        "strings of dtype",
    ),
    "strings-of-an-expression": Malformed(
        with_json(
            lambda o: o["coords"]["label"]["encoding"].update(dtype=",("),
            "file dataset",
        ),
        "strings of dtype",
    ),
}
"""What is wrong only for xarray: the reader gives pixels."""

__all__ = ["CORPUS", "ENGINE_ONLY", "Malformed", "Parts"]
