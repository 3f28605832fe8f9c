"""Damage to one region of a seed, with right checksums around it or without.

Strategy: bytes are flipped, cut, repeated and spliced; JSON, comments and side data are
also changed as what they mean, from words that the reader knows, so that damage does
not end at the first parser. One function per region; `REGIONS` says how often.
"""

from __future__ import annotations

import copy
import json
import lzma
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.fuzz import files
from tests.fuzz.files import Parts, Stream
from tests.fuzz.seeds import (
    FileSeed,
    OldSeed,
    TileSeed,
    file_seeds,
    old_seeds,
    tile_seeds,
)

INTS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4096, 32767,
        32768, 65535, 65536, (1 << 24) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
        1 << 32, 1 << 36, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
        10 ** 30)  # fmt: skip
VALUES = (
    None, True, False, -1, -2, 0.5, 1e308, -0.0, "", "x", "y", "band", "NaN",
    "Infinity", "uint8", "int64", "float64", "complex128", "bool", "str", "<f8",
    "<M8[ns]", "|O", "V8", "EPSG:4326", "EPSG:0", "\ud800", "\0", "a" * 300, [], {},
    [[]], [None], [1, 2, 3], ["y", "x"], {"a": 1}, {"$float": "NaN"}, "mask",
    "data", "-Infinity", "AAAA", "eJwDAAAAAAE=", "1e400", 10 ** 400,
)  # fmt: skip
KEYS = (
    "format", "version", "arrays", "crs", "transform", "gcps", "rpcs", "coords",
    "attrs", "tags", "gdal", "name", "dtype", "dims", "shape", "tile", "table",
    "level", "role", "nodata", "bands", "points", "data", "values", "encoding",
    "conventions", "plane", "coordinates", "scale", "offset", "colormap",
    "description", "units",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fuzz:
    """One input, and what it was made of."""

    kind: str
    """How it is checked: ``tile``, ``file``, ``raw`` or ``old``."""
    region: str
    """What was damaged."""
    seed: str
    """Name of the seed."""
    data: bytes
    """The bytes."""


Mutator = Callable[[random.Random], Fuzz]


def damage(rng: random.Random, data: bytes) -> bytes:
    """Damage bytes a little, one to four times."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        _DAMAGES[rng.randrange(len(_DAMAGES))](rng, out)
    return bytes(out)


def _at(rng: random.Random, out: bytearray) -> int:
    return rng.randrange(len(out)) if out else 0


def _flip(rng: random.Random, out: bytearray) -> None:
    if out:
        out[_at(rng, out)] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, out: bytearray) -> None:
    if out:
        out[_at(rng, out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _cut(rng: random.Random, out: bytearray) -> None:
    at = _at(rng, out)
    del out[at : at + rng.choice((1, 2, 4, 8, 16, rng.randrange(1, 200)))]


def _end(rng: random.Random, out: bytearray) -> None:
    del out[_at(rng, out) :]


def _insert(rng: random.Random, out: bytearray) -> None:
    at = _at(rng, out)
    out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))


def _repeat(rng: random.Random, out: bytearray) -> None:
    at = _at(rng, out)
    part = bytes(out[at : at + rng.randrange(1, 40)])
    to = _at(rng, out)
    out[to:to] = part


def _splice(rng: random.Random, out: bytearray) -> None:
    at, to, n = _at(rng, out), _at(rng, out), rng.randrange(1, 40)
    out[to : to + n] = out[at : at + n]


def _number(rng: random.Random, out: bytearray) -> None:
    width = rng.choice((1, 2, 3, 4, 8))
    at = _at(rng, out)
    value = (rng.choice(INTS) + rng.randrange(-1, 2)) % (1 << 8 * width)
    order = rng.choice(("little", "big"))
    out[at : at + width] = value.to_bytes(width, order)


def _fill(rng: random.Random, out: bytearray) -> None:
    at, n = _at(rng, out), rng.randrange(1, 60)
    part = out[at : at + n]
    out[at : at + n] = bytes([rng.choice((0, 0xFF, 0x55))]) * len(part)


_DAMAGES = (_flip, _flip, _flip, _set, _set, _cut, _end, _insert, _repeat, _splice,
            _number, _number, _fill)  # fmt: skip


# ---------------------------------------------------------------- the header


def change_json(rng: random.Random, obj: Any) -> Any:
    """Change one value somewhere in a JSON object, in place; give the object."""
    at = obj
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = rng.choice(keys)
        inner = at[key]
        if not isinstance(inner, (dict, list)) or rng.random() < 0.15:
            break
        at = inner
    if not keys:
        return obj
    what = rng.randrange(8)
    if what < 3:
        at[key] = _new_value(rng, inner)
    elif what == 3:
        del at[key]
    elif what == 4 and isinstance(at, list):
        at.insert(rng.randrange(len(at) + 1), copy.deepcopy(inner))
    elif what == 5 and isinstance(at, dict):
        at[rng.choice(KEYS)] = _new_value(rng, inner)
    elif what == 6:
        other = rng.choice(keys)
        at[key], at[other] = at[other], at[key]
    else:
        at[key] = [inner] if rng.random() < 0.5 else {"a": inner}
    return obj


def _new_value(rng: random.Random, old: Any) -> Any:
    if rng.random() < 0.3:
        return copy.deepcopy(rng.choice(VALUES))  # the next change may be inside it
    if isinstance(old, bool) or old is None:
        return copy.deepcopy(rng.choice(VALUES))
    if isinstance(old, int):
        return rng.choice((old + 1, old - 1, -old, old * 2, rng.choice(INTS)))
    if isinstance(old, float):
        return rng.choice((-old, old * 1e300, 0.0, 1e-300, old + 1))
    if isinstance(old, str):
        changed = damage(rng, old.encode("utf-8", "surrogatepass"))
        return changed.decode("utf-8", "replace")
    return copy.deepcopy(rng.choice((*VALUES, *INTS)))


def mutate_header(rng: random.Random) -> Fuzz:
    """Change the JSON's values; every checksum is right."""
    seed = rng.choice(file_seeds())
    obj = json.loads(seed.text)
    for array in obj["arrays"]:
        array["table"] = -1
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        obj = change_json(rng, obj)
    if rng.random() < 0.95:  # or nothing behind the magic is reached
        obj = {"format": "flacraster", "version": "1.0"} | {
            k: v for k, v in obj.items() if k not in ("format", "version")
        }
    parts = replace(seed.parts, obj=obj, tiles=_tiles_for(obj, seed.parts.tiles))
    return Fuzz("file", "header", seed.name, files.pack_file(parts))


def _tiles_for(
    obj: Any, tiles: tuple[tuple[bytes, ...], ...]
) -> tuple[tuple[bytes, ...], ...]:
    """Give as many tiles as the changed arrays have, where that is a few."""
    out = []
    arrays = obj.get("arrays") if isinstance(obj, dict) else None
    for k, array in enumerate(arrays if isinstance(arrays, list) else ()):
        old = tiles[k] if k < len(tiles) else tiles[0]
        count = len(old)
        try:
            pairs = zip(array["shape"], array["tile"], strict=True)
            wanted = 1
            for n, t in pairs:
                wanted *= -(-n // t)
            if isinstance(wanted, int) and 0 <= wanted < 64:
                count = wanted
        except (TypeError, KeyError, ValueError, ZeroDivisionError, OverflowError):
            pass
        out.append(tuple(old[i % len(old)] for i in range(count)))
    return tuple(out)


def mutate_text(rng: random.Random) -> Fuzz:
    """Damage the JSON's text; length, seal and rows are right."""
    seed = rng.choice(file_seeds())
    text = damage(rng, seed.text)
    if rng.random() < 0.5:
        text = text.ljust(len(seed.text))[: len(seed.text)]
    return Fuzz("file", "text", seed.name, files.pack_file(seed.parts, text))


def mutate_table(rng: random.Random) -> Fuzz:
    """Let rows say something else, their checksums following."""
    seed = rng.choice(file_seeds())
    parts, rows = seed.parts, {}
    sizes = [len(s) for tiles in parts.tiles for s in tiles]
    for _ in range(rng.choice((1, 1, 2, 3))):
        a = rng.randrange(len(parts.tiles))
        number = rng.randrange(len(parts.tiles[a]))
        offset = rng.choice((0, 1, -1, -16, sum(sizes[:1]), sum(sizes), sum(sizes) - 1,
                             rng.randrange(sum(sizes)), rng.choice(INTS)))  # fmt: skip
        nbytes = rng.choice((0, 1, 4, 42, sizes[0], sizes[-1], rng.choice(INTS)))
        rows[a, number] = (offset, nbytes)
    seal = rng.choice((None, None, None, 0, 1, len(seed.data) + 1, rng.choice(INTS)))
    data = files.pack_file(replace(parts, rows=rows, file_nbytes=seal))
    return Fuzz("file", "table", seed.name, data)


def shuffle_tiles(rng: random.Random) -> Fuzz:
    """Swap, repeat, drop and exchange tiles; every checksum is right."""
    seed = rng.choice(file_seeds())
    tiles = [list(t) for t in seed.parts.tiles]
    every = [s for t in seed.parts.tiles for s in t]
    other = rng.choice(file_seeds())
    foreign = [s for t in other.parts.tiles for s in t]
    for _ in range(rng.choice((1, 2, 3))):
        row = rng.choice(tiles)
        k = rng.randrange(len(row))
        row[k] = rng.choice(
            (rng.choice(every), rng.choice(foreign), b"", damage(rng, row[k]))
        )
    parts = replace(seed.parts, tiles=tuple(map(tuple, tiles)))
    return Fuzz("file", "tiles", seed.name, files.pack_file(parts))


def mutate_raw(rng: random.Random) -> Fuzz:
    """Damage a file anywhere, and mend nothing."""
    seed = rng.choice(file_seeds())
    return Fuzz("raw", "raw", seed.name, damage(rng, seed.data))


# ---------------------------------------------------------------- a tile


WORDS = (
    "fill", "void", "order", "scale", "palette", "offset", "bands", "up", "lift",
    "smooth", "across", "runs", "sparse", "classes", "pixel", "packed", "none", "",
)  # fmt: skip
DTYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "u8", "f4", "O", "")


def _parameter(rng: random.Random, word: str) -> str:  # noqa: PLR0911
    number = str(rng.choice(INTS) * rng.choice((1, 1, -1)))
    if word in ("fill", "void"):
        return rng.randbytes(rng.choice((0, 1, 2, 4, 8, 16, 3))).hex()
    if word == "scale":
        step = rng.choice((number, "0.1", "1e-320", "1e308", "nan", "inf", "0", "-1"))
        return f"{rng.choice(DTYPES)},{rng.choice('*/+')}{step}"
    if word == "palette":
        return rng.choice(DTYPES)
    if word == "offset":
        return f"{rng.choice(DTYPES)},{number}"
    if word == "classes":
        return str(rng.randrange(-1, 10))
    if word == "bands":
        if rng.random() < 0.3:
            return f"previous,{number}"
        return ",".join(rng.choice("-012345") for _ in range(rng.randrange(1, 9)))
    return rng.choice(("apart", "pairs", "x", number))


def _token(rng: random.Random) -> str:
    word = rng.choice(WORDS)
    has_parameter = word in WORDS[:2] + WORDS[3:7] + ("runs", "classes")
    if has_parameter or rng.random() < 0.05:
        return f"{word}:{_parameter(rng, word)}"
    return word


def _change_plan(rng: random.Random, text: str) -> str:
    tokens = text.split()
    for _ in range(rng.choice((1, 1, 2, 3))):
        what = rng.randrange(5)
        at = rng.randrange(len(tokens) + 1)
        if what == 0 and tokens:
            del tokens[at % len(tokens)]
        elif what == 1 and tokens:
            tokens[at % len(tokens)] = _token(rng)
        elif what == 2:
            tokens = [t for t in (_token(rng) for _ in range(rng.randrange(5))) if t]
        else:
            tokens.insert(at, _token(rng))
    if rng.random() < 0.8:  # in the order that a plan must have
        rank = {word: k for k, word in enumerate(WORDS)}
        tokens.sort(key=lambda t: rank.get(t.partition(":")[0], 0))
    return " ".join(tokens)


def mutate_comments(rng: random.Random) -> Fuzz:
    """Let a tile's comments say something else."""
    seed = rng.choice(tile_seeds())
    payload = seed.stream.payload(4) or b""
    if rng.random() < 0.15:
        payload = damage(rng, payload)
    else:
        pairs = files.unpack_comments(payload)
        for _ in range(rng.choice((1, 1, 2))):
            k = rng.randrange(len(pairs))
            if rng.random() < 0.7:
                k = next(
                    (i for i, (n, _) in enumerate(pairs) if n.endswith("TRANSFORMS")), k
                )
            name, text = pairs[k]
            if name.endswith("TRANSFORMS") and rng.random() < 0.9:
                pairs[k] = (name, _change_plan(rng, text))
            else:
                pairs[k] = (name, damage(rng, text.encode()).decode("utf-8", "replace"))
        payload = files.pack_comments(pairs)
    stream = seed.stream.with_payload(4, payload)
    return Fuzz("tile", "comments", seed.name, stream.pack())


_SIDED: list[TileSeed] = []


def _sided() -> list[TileSeed]:
    if not _SIDED:
        _SIDED.extend(s for s in tile_seeds() if s.stream.payload(2) is not None)
    return _SIDED


def mutate_side(rng: random.Random) -> Fuzz:
    """Damage side data: packed bytes, the pieces' heads, or what is packed."""
    seed = rng.choice(_sided())
    side = (seed.stream.payload(2) or b"")[4:]
    what = rng.random()
    if what < 0.2:
        side = damage(rng, side)
    else:
        pieces = files.unpack_pieces(side)
        k = rng.randrange(len(pieces))
        pieces[k] = (_change_head if what < 0.4 else _change_content)(rng, pieces[k])
        if rng.random() < 0.1:
            pieces.insert(k, rng.choice(pieces))
        side = files.pack_pieces(pieces)
    stream = seed.stream.with_payload(2, b"FXRS" + side)
    return Fuzz("tile", "side", seed.name, stream.pack())


Piece = tuple[int, int, int, int, int, bytes]


def _change_head(rng: random.Random, piece: Piece) -> Piece:
    method, properties, reserved, nbytes, packed, data = piece
    what = rng.randrange(5)
    if what == 0:
        method = rng.choice((0, 1, 2, 3, 255))
    elif what == 1:
        properties = rng.randrange(256)
    elif what == 2:
        nbytes = rng.choice((*INTS[:26], nbytes + 1, max(nbytes - 1, 0)))
    elif what == 3:
        packed = rng.choice((*INTS[:26], packed + 1, max(packed - 1, 0)))
    else:
        data = damage(rng, data)
        packed = len(data)
    return method, properties, reserved, nbytes % 2**32, packed % 2**32, data


def _change_content(rng: random.Random, piece: Piece) -> Piece:
    """Change what a piece says, and pack it as it should be."""
    method, properties, reserved, nbytes, _, data = piece
    if method == 1:
        content = zlib.decompress(data, -15)
    elif method == 2:
        rest, lc = divmod(properties, 9)
        pb, lp = divmod(rest, 5)
        chain = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": lc, "lp": lp,
                  "pb": pb}]  # fmt: skip
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain)
        content = unpacker.decompress(data, nbytes)
    else:
        content = data
    content = damage(rng, content)
    if rng.random() < 0.7:  # of the size that the plan expects
        content = content.ljust(nbytes, b"\0")[:nbytes]
    if rng.random() < 0.3:
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(content) + packer.flush()
        return 1, 0, reserved, len(content), len(packed), packed
    return 0, 0, reserved, len(content), len(content), content


_FRAMES: dict[str, tuple[list[int], list[int]]] = {}


def mutate_frames(rng: random.Random) -> Fuzz:
    """Damage FLAC frames; their own checksums are right in three of four."""
    seed = rng.choice(tile_seeds())
    frames = seed.stream.frames
    if seed.name not in _FRAMES:
        _FRAMES[seed.name] = files.frame_starts(frames)
    starts, heads = _FRAMES[seed.name]
    parts = [
        frames[a:b] for a, b in zip(starts, [*starts[1:], len(frames)], strict=True)
    ]
    k = rng.randrange(len(parts))
    what = rng.random()
    if what < 0.3:  # the frame's header
        parts[k] = damage(rng, parts[k][: heads[k]]) + parts[k][heads[k] :]
    elif what < 0.9:
        parts[k] = parts[k][: heads[k]] + damage(rng, parts[k][heads[k] :])
    elif len(parts) > 1:
        parts[k] = parts[rng.randrange(len(parts))]
    else:
        parts[k] = damage(rng, parts[k])
    region = "frames"
    if rng.random() < 0.75:
        region = "mended frames"
        parts = [
            files.mend_frames(p, [0], [h]) for p, h in zip(parts, heads, strict=True)
        ]
    stream = replace(seed.stream, frames=b"".join(parts))
    return Fuzz("tile", region, seed.name, stream.pack())


def mutate_stream(rng: random.Random) -> Fuzz:
    """Damage STREAMINFO, the blocks' heads, or anything of a tile."""
    seed = rng.choice(tile_seeds())
    if rng.random() < 0.6:
        stream = replace(seed.stream, info=_change_info(rng, seed.stream.info))
        return Fuzz("tile", "STREAMINFO", seed.name, stream.pack())
    return Fuzz("tile", "stream", seed.name, damage(rng, seed.stream.pack()))


def _change_info(rng: random.Random, info: bytes) -> bytes:
    if rng.random() < 0.4:
        return damage(rng, info[:18]).ljust(18, b"\0")[:18] + info[18:]
    if rng.random() < 0.3:
        return info[:18] + bytes(16)  # no MD5
    low, high = struct.unpack(">HH", info[:4])
    fields = int.from_bytes(info[10:18], "big")
    total, bits = fields & (1 << 36) - 1, fields >> 36 & 31
    channels, rate = fields >> 41 & 7, fields >> 44
    what = rng.randrange(5)
    if what == 0:
        total = rng.choice((*INTS[:28], total + 1, max(total - 1, 0))) % (1 << 36)
    elif what == 1:
        bits = rng.randrange(32)
    elif what == 2:
        channels = rng.randrange(8)
    elif what == 3:
        high = rng.choice((0, 1, 15, 16, 64, high - 1, high + 1, 65535)) % 65536
    else:
        low = rng.randrange(65536)
    fields = rate << 44 | channels << 41 | bits << 36 | total
    sizes = struct.pack(">HH", low, high)
    return sizes + info[4:10] + fields.to_bytes(8, "big") + info[18:]


# ---------------------------------------------------------------- older forms


def mutate_old(rng: random.Random) -> Fuzz:
    """Damage bare tiles and the seed's indexes, which have no checksums."""
    seed = rng.choice(old_seeds())
    data = seed.data
    if seed.name.startswith("indexed") and rng.random() < 0.6:
        (nbytes,) = struct.unpack_from(">I", data)
        try:
            changed = change_json(rng, json.loads(data[4 : 4 + nbytes]))
            text = json.dumps(changed).encode()
        except ValueError:  # a part was put into itself
            return mutate_old(rng)
        data = struct.pack(">I", len(text)) + text + data[4 + nbytes :]
    else:
        data = damage(rng, data)
    return Fuzz("old", "older forms", seed.name, data)


REGIONS: tuple[tuple[Mutator, int], ...] = (
    (mutate_header, 16),
    (mutate_text, 6),
    (mutate_table, 8),
    (shuffle_tiles, 5),
    (mutate_raw, 8),
    (mutate_comments, 15),
    (mutate_side, 15),
    (mutate_frames, 18),
    (mutate_stream, 5),
    (mutate_old, 4),
)
_MUTATORS = [mutator for mutator, _ in REGIONS]
_WEIGHTS = [weight for _, weight in REGIONS]


def make_input(run_seed: int, number: int) -> Fuzz:
    """Give one input; the same numbers give the same input."""
    rng = random.Random(run_seed << 40 | number)
    return rng.choices(_MUTATORS, _WEIGHTS)[0](rng)


def seed_named(name: str) -> TileSeed | FileSeed | OldSeed:
    """Look a seed up by its name."""
    every = (*tile_seeds(), *file_seeds(), *old_seeds())
    return next(seed for seed in every if seed.name == name)


__all__ = ["REGIONS", "Fuzz", "Parts", "Stream", "make_input", "seed_named"]
