"""Tiles that use each transform of the format, and the bits that they must decode to.

Plans are forced, so that a transform is there whether or not it pays. The truth is the
NumPy array that a tile was made of, never our own decoder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from flac_xarray.dtypes import COMPLEX_INT16, DTYPES, numpy_dtype
from flac_xarray.flac_frames import encode_samples
from flac_xarray.flac_stream import pack_application, pack_comments, pack_stream
from flac_xarray.tile_codec import encode_tile
from flac_xarray.transforms.pipeline import apply_plan
from flac_xarray.transforms.plan import Plan
from flac_xarray.transforms.scaling import Scale
from flac_xarray.transforms.values import to_parts

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
PREDICTORS = ("none", "up", "lift", "smooth")


@dataclass(frozen=True)
class Tile:
    name: str
    data: bytes
    shape: tuple[int, ...]
    dtype: str
    digest: str
    """SHA-256 of the pixels, real parts of a plane before its imaginary ones."""


def digest_of(pixels: np.ndarray, dtype: str) -> str:
    """Digest of pixels as the page holds them."""
    flat = pixels.reshape(-1, *pixels.shape[-2:])
    if flat.dtype.kind == "c":
        flat = np.stack([flat.real, flat.imag], axis=1)
        flat = flat.astype("i2") if dtype == COMPLEX_INT16 else flat
    return hashlib.sha256(np.ascontiguousarray(flat).tobytes()).hexdigest()


def tile_of(name: str, data: bytes, pixels: np.ndarray, dtype: str | None = None):
    dtype = dtype or pixels.dtype.name
    return Tile(name, data, pixels.shape, dtype, digest_of(pixels, dtype))


def forced(name: str, pixels: np.ndarray, plan: Plan, *, effort: int = 5) -> Tile:
    """Encode a tile with this very plan."""
    dtype = pixels.dtype.name
    coded = apply_plan(to_parts(pixels, dtype), plan, effort)
    assert coded.plan == plan, (name, coded.plan, plan)
    count, height, width = pixels.shape
    texts = {
        "GEOSPATIAL_DTYPE": dtype,
        "GEOSPATIAL_COUNT": str(count),
        "GEOSPATIAL_HEIGHT": str(height),
        "GEOSPATIAL_WIDTH": str(width),
        "GEOSPATIAL_TRANSFORMS": plan.pack(),
    }
    is_single = len(coded.samples) == 1
    info, frames = encode_samples(
        coded.samples, coded.bits_per_sample, blocksize=16 if is_single else 1024
    )
    blocks = [pack_comments(texts), *pack_application(b"FXRS", coded.side)]
    return tile_of(name, pack_stream(info, blocks, frames), pixels)


def any_bits(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Pixels of any bits: NaN payloads, negative zero and extremes are among them."""
    rng = np.random.default_rng(seed)
    form = numpy_dtype(dtype)
    if dtype == "bool":
        return rng.random(shape) > 0.5
    if dtype == COMPLEX_INT16:
        real, imag = rng.integers(-(1 << 15), 1 << 15, (2, *shape))
        return (real + 1j * imag).astype(form)
    raw = rng.bytes(int(np.prod(shape)) * form.itemsize)
    return np.frombuffer(raw, form).reshape(shape)


def hills(dtype: str, planes: int = 2, height: int = 150, width: int = 67):
    """Smooth ground over the whole range of an integer dtype, extremes included."""
    limits = np.iinfo(dtype)
    y, x = np.mgrid[:height, :width]
    wave = np.stack([np.sin(y / 30 + k) * np.cos(x / 25) for k in range(planes)])
    step = (limits.max - limits.min) / 2.2
    ground = np.clip(
        limits.min + (wave + 1.1) * step, float(limits.min), float(limits.max) * 0.999
    ).astype(dtype)
    ground[:, 3, 5], ground[:, 70, 9] = limits.min, limits.max
    return ground


def classes(dtype: str = "uint8", planes: int = 1) -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 9, (planes, 13, 11))
    return np.kron(coarse, np.ones((1, 12, 10))).astype(dtype)


def voids(dtype: str, void: float) -> np.ndarray:
    pixels = hills("int16").astype(dtype)
    hole = np.random.default_rng(5).random(pixels.shape) < 0.02
    hole[:, 20:90, 10:40] = True
    pixels[hole] = void
    return pixels


def _bits(value: float, dtype: str) -> bytes:
    return np.array(value, dtype).tobytes()


def forced_tiles() -> list[Tile]:
    """Make tiles for every transform."""
    tiles = [
        forced(f"{dtype}-{predictor}", hills(dtype), Plan(predictor=predictor))
        for dtype in INTEGERS
        for predictor in PREDICTORS
    ]
    for dtype in ("uint8", "int16", "uint32", "int64"):
        pixels = hills(dtype, 3)
        near = Plan(bands=(-1, 0, 1), predictor="smooth")
        tiles += [
            forced(f"{dtype}-bands", pixels, near),
            forced(f"{dtype}-bands-listed", pixels, Plan(bands=(2, 0, -1))),
            forced(f"{dtype}-across", pixels, Plan(predictor="up", across=True)),
            forced(f"{dtype}-packed", pixels, Plan(predictor="lift", packed=True)),
            forced(
                f"{dtype}-across-packed",
                pixels,
                Plan(predictor="smooth", across=True, packed=True),
            ),
            forced(f"{dtype}-deflated", pixels, Plan(packed=True), effort=1),
            forced(f"{dtype}-runs", classes(dtype), Plan(runs="apart")),
            forced(
                f"{dtype}-runs-packed",
                classes(dtype, 2),
                Plan(predictor="up", across=True, runs="apart", packed=True),
            ),
            forced(
                f"{dtype}-sparse", classes(dtype), Plan(predictor="up", sparse=True)
            ),
            forced(
                f"{dtype}-sparse-packed", classes(dtype), Plan(sparse=True, packed=True)
            ),
        ]
    for predictor in PREDICTORS:
        for across in (False, True):
            void = Plan(void=_bits(-9, "i2"), predictor=predictor, across=across)
            tiles.append(forced(f"void-{predictor}-{across}", voids("int16", -9), void))
    mask = voids("int16", -9) == -9
    for k, (pixels, bits) in enumerate(_class_maps()):
        tiles.append(forced(f"classes-{k}", pixels, Plan(classes=bits)))
    holes = np.where(mask, 200, np.resize(classes(), mask.shape))
    tiles.append(
        forced("classes-void", holes.astype("u1"), Plan(void=b"\xc8", classes=4))
    )
    rgb = hills("uint8", 3)
    long_runs = np.repeat(np.arange(40, dtype="u1"), 1000).reshape(1, 200, 200)
    tiles += [
        forced("pairs", classes(), Plan(runs="pairs")),
        forced("pairs-long", long_runs, Plan(predictor="up", runs="pairs")),
        forced("apart-long", long_runs, Plan(runs="apart")),
        forced("pixel", rgb, Plan(bands=(-1, 0, 0), predictor="smooth", pixel=True)),
        forced("pixel-8", hills("int16", 8), Plan(predictor="up", pixel=True)),
        forced("pixel-24", hills("int32", 5) >> 9, Plan(predictor="up", pixel=True)),
        forced("offset-u1", hills("uint8") + np.int16(900), Plan(offset=("u1", 900))),
        forced(
            "offset-i8",
            hills("uint16").astype("i8") - (1 << 60),
            Plan(offset=("u2", -(1 << 60)), predictor="lift"),
        ),
        forced(
            "offset-wrap",
            hills("uint8").astype("u2") + np.uint16(65400),
            Plan(offset=("u1", 65400)),
        ),
        *_float_tiles(),
    ]
    return tiles


def _class_maps() -> list[tuple[np.ndarray, int]]:
    """Make maps with and without neighbours that agree, and with planes that do."""
    rng = np.random.default_rng(8)
    noise = rng.integers(0, 256, (3, 70, 45)).astype("u1")
    alike = classes("uint8", 3)
    alike[1] = alike[0]
    alike[2] = np.where(rng.random(alike[0].shape) < 0.02, 9, alike[1])
    patchy = (hills("int16", 2, 90, 130) // 4000 + 9).astype("u1")
    return [
        (classes(), 4),
        (alike, 4),
        (noise, 8),
        (patchy, 5),
        (noise[:1, :1] & 3, 2),
        (noise[:1, :, :1] & 1, 1),
        ((noise[:2] & 7).view("i1"), 3),
    ]


def _float_tiles() -> list[Tile]:
    tiles = []
    for dtype in ("float16", "float32", "float64"):
        whole = hills("int16" if dtype != "float16" else "int8").astype(dtype)
        cents = (whole / np.dtype(dtype).type(100)).astype(dtype)
        ranked = any_bits(dtype, (1, 1, 300)).reshape(-1)
        ranks = np.random.default_rng(2).integers(0, 300, (2, 70, 30))
        hole = voids("float32", 0).astype(dtype)
        hole[hole == 0] = np.nan
        nan = hole[np.isnan(hole)][0].tobytes()
        scaled = [
            Scale("i2", is_divisor=True, step=100.0),
            Scale("i4", is_divisor=False, step=0.1),
            Scale("i2", is_divisor=False, step=1.0),
        ]
        products = np.arange(-3000, 3000).reshape(1, 100, 60) * 0.1
        tiles += [
            forced(f"{dtype}-order", cents, Plan(order=True, predictor="up")),
            forced(f"{dtype}-scale/", _scaled(whole, scaled[0]), Plan(scale=scaled[0])),
            forced(
                f"{dtype}-scale*",
                products.astype(dtype),
                Plan(scale=scaled[1], predictor="smooth"),
            ),
            forced(f"{dtype}-scale1", whole, Plan(scale=scaled[2], predictor="lift")),
            forced(
                f"{dtype}-palette",
                ranked[ranks % 200],
                Plan(order=True, palette="u1", predictor="up"),
            ),
            forced(f"{dtype}-palette-bits", ranked[ranks], Plan(palette="u2")),
            forced(
                f"{dtype}-nan",
                hole,
                Plan(void=nan, order=True, predictor="smooth", packed=True),
            ),
            forced(f"{dtype}-void-up", hole, Plan(void=nan, predictor="up")),
        ]
    return tiles


def _scaled(whole: np.ndarray, scale: Scale) -> np.ndarray:
    """Floats that are integers over a divisor, rounded once."""
    wide = whole.astype(np.int64).astype(np.float64) / scale.step
    return wide.astype(whole.dtype)


def chosen_tiles() -> list[Tile]:
    """Make tiles of each dtype as a writer does: any bits, smooth ones, constants."""
    tiles = []
    for dtype in DTYPES:
        for k, shape in enumerate([(1, 1, 1), (2, 65, 33), (2, 3, 20, 17)]):
            pixels = any_bits(dtype, shape, k)
            data = encode_tile(pixels, dtype=dtype)
            tiles.append(tile_of(f"{dtype}-any-{k}", data, pixels, dtype))
        pixel = any_bits(dtype, (1, 1, 1), 7)
        constant = np.ascontiguousarray(np.broadcast_to(pixel, (2, 9, 8)))
        data = encode_tile(constant, dtype=dtype)
        tiles.append(tile_of(f"{dtype}-fill", data, constant, dtype))
    for effort in (0, 4, 9):
        for pixels in (hills("int16", 1), classes(), voids("int16", -9)):
            nodata = _bits(-9, "i2") if pixels.dtype == "int16" else None
            data = encode_tile(
                pixels, dtype=pixels.dtype.name, nodata=nodata, effort=effort
            )
            tiles.append(tile_of(f"effort-{effort}-{len(tiles)}", data, pixels))
    return tiles
