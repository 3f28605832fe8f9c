"""Small rasters of every kind that the reader knows, and their pixels.

Strategy: one tile per transform and dtype (`tile_seeds`), containers with all that a
header can hold (`file_seeds`), and files of the forms that came before (`old_seeds`).
Small, so that a million of them can be read in minutes.
"""

from __future__ import annotations

import json
import struct
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flac_xarray import flac_frames
from flac_xarray.colors import pack_colors
from flac_xarray.coords import Coord
from flac_xarray.dataset_writer import write
from flac_xarray.flac_stream import pack_application, pack_comments, pack_stream
from flac_xarray.georef import Gcp, Georef
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.reader import FlacRaster
from flac_xarray.sinks import MemorySink
from flac_xarray.transforms.pipeline import apply_plan
from flac_xarray.transforms.plan import Plan
from flac_xarray.transforms.values import to_parts
from flac_xarray.writer import FlacRasterWriter
from tests.fuzz.files import Parts, Stream, place_tables


@dataclass(frozen=True, slots=True)
class TileSeed:
    """One tile."""

    name: str
    dtype: str
    pixels: Any
    stream: Stream


@dataclass(frozen=True, slots=True)
class FileSeed:
    """One container."""

    name: str
    data: bytes
    parts: Parts
    text: bytes
    pixels: tuple[Any, ...]
    georef: Georef


@dataclass(frozen=True, slots=True)
class OldSeed:
    """A bare tile, or a file with one of the seed's indexes."""

    name: str
    data: bytes
    pixels: Any


def encode_with(
    pixels: Any, dtype: str, plan: Plan, *, blocksize: int = 2048
) -> Stream:
    """Encode a tile by a plan of the caller's choice."""
    if plan.fill is not None:
        samples, bits, side = np.zeros(1, np.int16), 16, b""
    else:
        coded = apply_plan(to_parts(pixels, dtype), plan)
        samples, bits, side = coded.samples, coded.bits_per_sample, coded.side
    info, frames = flac_frames.encode_samples(
        samples, bits, level=2, blocksize=blocksize
    )
    comments = {
        "GEOSPATIAL_DTYPE": dtype,
        "GEOSPATIAL_COUNT": str(int(np.prod(pixels.shape[:-2]))),
        "GEOSPATIAL_HEIGHT": str(pixels.shape[-2]),
        "GEOSPATIAL_WIDTH": str(pixels.shape[-1]),
        "GEOSPATIAL_TRANSFORMS": plan.pack(),
        "GEOSPATIAL_CRS": "EPSG:32633",
        "GEOSPATIAL_TRANSFORM": "[10.0,0.0,500000.0,0.0,-10.0,4000000.0]",
    }
    if pixels.ndim != 3:
        comments["GEOSPATIAL_SHAPE"] = ",".join(map(str, pixels.shape))
    blocks = [
        pack_comments(comments),
        *pack_application(b"FXRS", side),
    ]
    return Stream.unpack(pack_stream(info, blocks, bytes(frames)))


def scene(dtype: str, shape: tuple[int, ...]) -> Any:
    """Hills with a flat part, a few levels and a bit of noise."""
    rng = np.random.default_rng(len(dtype))
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    values = np.floor(20 * np.sin(y / 5) * np.cos(x / 7)) + 25
    values = values + rng.integers(0, 2, shape)
    values[..., : shape[-2] // 3, :] = 7
    if dtype == "bool":
        return values > 30
    if dtype.startswith("complex"):
        form = np.dtype("complex64" if dtype == "complex_int16" else dtype)
        out = values.astype(form)
        out.imag = values[..., ::-1]
        return out
    out = values.astype(dtype)
    if dtype.startswith("float"):
        out = (out / 8).astype(dtype)
    return out


SMALL = (1, 9, 11)
CUBE = (3, 6, 7)
TALL = (1, 70, 4)
PLANS = (
    ("uint8", SMALL, ""),
    ("int16", SMALL, ""),
    ("int8", SMALL, "across"),
    ("uint8", SMALL, "up"),
    ("int16", TALL, "lift"),
    ("uint16", TALL, "smooth"),
    ("uint8", TALL, "smooth"),
    ("int32", SMALL, "smooth across"),
    ("uint32", SMALL, "lift"),
    ("int64", SMALL, "up"),
    ("uint64", SMALL, "lift"),
    ("uint8", SMALL, "runs:apart"),
    ("uint8", SMALL, "runs:pairs"),
    ("int16", SMALL, "up runs:apart packed"),
    ("uint8", SMALL, "up sparse"),
    ("int16", SMALL, "up sparse packed"),
    ("uint8", CUBE, "pixel"),
    ("int16", CUBE, "up pixel"),
    ("uint16", CUBE, "bands:-,0,1 up"),
    ("uint8", CUBE, "bands:previous,3 lift"),
    ("uint8", CUBE, "bands:1,-,1 smooth pixel"),
    ("int16", SMALL, "void:0700 up"),
    ("int16", SMALL, "void:0700 up across"),
    ("uint8", SMALL, "void:07 runs:apart"),
    ("float32", SMALL, "void:0000603f order lift"),
    ("float32", SMALL, "order palette:u1 lift"),
    ("float32", SMALL, "scale:i2,/8.0 up"),
    ("float64", SMALL, "scale:i1,*0.125"),
    ("float16", SMALL, "order up across packed"),
    ("float64", SMALL, "order up packed"),
    ("float32", SMALL, "order"),
    ("uint16", SMALL, "palette:u1"),
    ("int32", SMALL, "offset:u1,5 lift"),
    ("bool", SMALL, "runs:apart"),
    ("bool", SMALL, ""),
    ("complex64", SMALL, "order"),
    ("complex128", SMALL, "up"),
    ("complex_int16", SMALL, "lift"),
    ("uint8", SMALL, "classes:6"),
    ("uint8", CUBE, "classes:6"),
    ("bool", (1, 9, 70), "classes:1"),
    ("int8", SMALL, "classes:8"),
    ("uint8", SMALL, "void:07 classes:6"),
    ("uint16", SMALL, "palette:u1 classes:5"),
    ("uint8", (6, 7), "up"),
    ("int16", (2, 2, 5, 6), "lift"),
    ("uint16", SMALL, "fill:0700"),
)


@cache
def tile_seeds() -> tuple[TileSeed, ...]:
    """Give one tile per plan, and some with many frames."""
    seeds = []
    for dtype, shape, text in PLANS:
        pixels = scene(dtype, shape)
        if text.startswith("fill"):
            pixels = np.full(shape, 7, dtype)
        stream = encode_with(pixels, dtype, Plan.unpack(text))
        seeds.append(TileSeed(f"{dtype} {text}".strip(), dtype, pixels, stream))
    for dtype, shape, text in (
        ("int16", (1, 20, 16), "up"),
        ("uint8", (3, 10, 16), "pixel"),
        ("int32", (1, 12, 16), ""),
    ):
        pixels = scene(dtype, shape)
        stream = encode_with(pixels, dtype, Plan.unpack(text), blocksize=64)
        seeds.append(TileSeed(f"frames {dtype} {text}", dtype, pixels, stream))
    rng = np.random.default_rng(3)
    for dtype, top in (("int16", 1 << 15), ("int32", 1 << 31), ("uint8", 1 << 7)):
        # Noise of the full range: verbatim subframes and long Rice codes.
        low = 0 if dtype == "uint8" else -top
        pixels = rng.integers(low, top, SMALL).astype(dtype)
        stream = encode_with(pixels, dtype, Plan())
        seeds.append(TileSeed(f"noise {dtype}", dtype, pixels, stream))
    return tuple(seeds)


def _write(header: Header, arrays: list[Any]) -> bytes:
    sink = MemorySink()
    with FlacRasterWriter(sink, header, threads=1) as writer:
        for position, pixels in enumerate(arrays):
            writer.write(pixels, position=position)
    return sink.value


def _file(name: str, header: Header, arrays: list[Any]) -> FileSeed:
    seed = _read_back(name, _write(header, arrays))
    for found, written in zip(seed.pixels, arrays, strict=True):
        np.testing.assert_array_equal(found, written)
    return seed


def _read_back(name: str, data: bytes) -> FileSeed:
    parts = Parts.unpack(data)
    text = place_tables(parts.obj, [len(tiles) for tiles in parts.tiles])
    with FlacRaster.open(data, threads=1, cache_nbytes=0) as raster:
        georef = raster.georef
        pixels = tuple(
            raster.read_selection([slice(0, n) for n in a.shape], position=k)
            for k, a in enumerate(raster.header.arrays)
        )
    return FileSeed(name, data, parts, text, pixels, georef)


def _dataset_file() -> FileSeed:
    """Give a file written from xarray."""
    times = np.array(["2026-01-01", "2026-01-02"], "M8[ns]")
    values = scene("float32", (2, 5, 6))
    dataset = xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": times,
            "lat": np.linspace(50, 49, 5),
            "lon": np.linspace(7, 9, 6),
            "label": ("time", np.array(["a", "b"])),
        },
        {"title": "x", "levels": [1.0, float("nan")]},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "dataset.flac")
        write(dataset, path, threads=1)
        return _read_back("file dataset", path.read_bytes())


TRANSFORM = (10.0, 0.0, 500000.0, 0.0, -10.0, 4000000.0)


@cache
def file_seeds() -> tuple[FileSeed, ...]:
    """Give containers: plain ones of several dtypes, and one with everything."""
    seeds = []
    for dtype in ("uint8", "int16", "float32", "bool"):
        info = ArrayInfo("band_data", dtype, ("band", "y", "x"), (1, 9, 11), (1, 8, 8))
        header = Header((info,), Georef("EPSG:32633", TRANSFORM))
        seeds.append(_file(f"file {dtype}", header, [scene(dtype, (1, 9, 11))]))
    nodata = ArrayInfo(
        "band_data", "int16", ("band", "y", "x"), (2, 9, 11), (2, 8, 8), nodata=(7, 7)
    )
    seeds.append(
        _file(
            "file nodata",
            Header((nodata,), Georef(None, TRANSFORM)),
            [scene("int16", (2, 9, 11))],
        )
    )
    everything = Header(
        arrays=(
            ArrayInfo(
                "t", "float32", ("time", "y", "x"), (2, 5, 6), (1, 4, 4),
                nodata=(float("nan"),), attrs={"units": "K"}, extra={"later": [1]},
            ),
            ArrayInfo(
                "q", "int16", ("band", "y", "x"), (2, 5, 6), (2, 4, 4),
                nodata=(-1, None),
                bands=(
                    {"description": "u", "scale": 2.0, "units": "m", "offset": 1.0,
                     "colorinterp": "gray", "tags": {"": {"a": "1"}, "N": {"b": "c"}},
                     "colormap": pack_colors([(0, 0, 0, 255), (250, 10, 20, 255)])},
                    {},
                ),
            ),
            ArrayInfo("t", "int8", ("time", "y", "x"), (2, 3, 3), (1, 4, 4), level=1),
            ArrayInfo("mask", "uint8", ("y", "x"), (5, 6), (4, 4), role="mask"),
        ),
        georef=Georef(
            "EPSG:4326", (0.1, 0, 5, 0, -0.1, 50),
            gcps=(Gcp(0.5, 1, 2, 3, None, "a", "b"),), gcps_crs="EPSG:4326",
            rpcs={"HEIGHT_OFF": 1.5},
        ),
        coords={
            "time": Coord(("time",), np.array([1, 2], "M8[ns]"), {"a": 1}),
            "label": Coord(("time",), np.array(["x", "y"], object)),
            "one": Coord((), np.array(2.5)),
        },
        attrs={"title": "x"},
        tags={"": {"AREA_OR_POINT": "Area"}, "NS": {"k": "v"}},
        extra={"future": {"a": 1}},
    )  # fmt: skip
    arrays = [scene(a.dtype, a.shape) for a in everything.arrays]
    seeds.append(_dataset_file())
    seeds.append(_file("file everything", everything, arrays))
    return tuple(seeds)


@cache
def old_seeds() -> tuple[OldSeed, ...]:
    """Give bare tiles, and files with the two indexes of the seed."""
    seeds = [
        OldSeed(f"bare {seed.name}", seed.stream.pack(), seed.pixels)
        for seed in tile_seeds()[::4]
    ]
    pixels = scene("int16", (1, 10, 12))
    for kind in ("frames", "tiles"):
        entries, streams, at = [], [], 0
        for number, (row, col) in enumerate(((0, 0), (0, 6), (5, 0), (5, 6))):
            tile = np.ascontiguousarray(pixels[:, row : row + 5, col : col + 6])
            stream = encode_with(tile, "int16", Plan()).pack()
            bbox = [col, 10 - row - 5, col + 6, 10 - row]
            entry: dict[str, Any] = {"bbox": bbox}
            if kind == "frames":
                window = {"row_off": row, "col_off": col, "height": 5, "width": 6}
                where = {"byte_offset": at, "byte_size": len(stream)}
                entry |= {"frame_id": number, "window": window} | where
            else:
                entry |= {
                    "id": number,
                    "window": [col, row, 6, 5],
                    "byte_range": [at, at + len(stream) - 1],
                }
            at += len(stream)
            entries.append(entry)
            streams.append(stream)
        text = json.dumps({kind: entries}).encode()
        data = struct.pack(">I", len(text)) + text + b"".join(streams)
        seeds.append(OldSeed(f"indexed {kind}", data, pixels))
    return tuple(seeds)
