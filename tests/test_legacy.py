"""Legacy files: hand-made indexes, flac-raster's own, bare tiles, damaged ones."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import io
import json
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.windows
import soundfile
import xarray as xr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine

from flac_xarray import FlacRaster, FormatError, encode_array, register_gdal
from flac_xarray.cli import main
from flac_xarray.errors import LossyFileWarning, NotFlacRasterError
from flac_xarray.legacy import Stretch, lossy_reason, read_legacy, undo_stretch
from flac_xarray.legacy.comments import read_nodata, unpack_affine
from flac_xarray.range_server import RangeServer

RNG = np.random.default_rng(5)
HEIGHT, WIDTH, TILE = 50, 70, 32
TRANSFORM = (10.0, 0.0, 500000.0, 0.0, -10.0, 4000000.0)

# ---------------------------------------------------------------- hand-made files


def flac(samples: np.ndarray) -> tuple[bytes, bytes]:
    """STREAMINFO block and frames of int16 samples, by libsndfile."""
    sink = io.BytesIO()
    soundfile.write(sink, samples, 44100, format="FLAC", subtype="PCM_16")
    data = sink.getvalue()
    at, is_last = 4, False
    while not is_last:
        is_last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return data[4:42], data[at:]


def tile_stream(pixels: np.ndarray, **comments: object) -> bytes:
    """One FLAC stream of int16 pixels (band, y, x), comments built by hand."""
    info, frames = flac(np.ascontiguousarray(pixels.reshape(len(pixels), -1).T))
    texts = [f"GEOSPATIAL_{name}={text}".encode() for name, text in comments.items()]
    block = struct.pack("<I", 4) + b"hand" + struct.pack("<I", len(texts))
    block += b"".join(struct.pack("<I", len(text)) + text for text in texts)
    head = b"\x84" + len(block).to_bytes(3, "big")
    return b"fLaC" + b"\x00" + info[1:] + head + block + frames


def describe(pixels: np.ndarray, **more: object) -> dict[str, object]:
    count, height, width = pixels.shape
    size = {"WIDTH": width, "HEIGHT": height, "COUNT": count, "DTYPE": "int16"}
    return size | {"CRS": "EPSG:32633", "NODATA": "-1.0"} | more


PIXELS = RNG.integers(-300, 300, (1, HEIGHT, WIDTH)).astype("int16")
WINDOWS = [
    (row, col, min(TILE, HEIGHT - row), min(TILE, WIDTH - col))
    for row in range(0, HEIGHT, TILE)
    for col in range(0, WIDTH, TILE)
]


def tiles_of(pixels: np.ndarray, **more: object) -> list[bytes]:
    found = []
    for row, col, height, width in WINDOWS:
        tile = pixels[:, row : row + height, col : col + width]
        transform = [10, 0, 500000 + 10 * col, 0, -10, 4000000 - 10 * row]
        comments = describe(tile, TRANSFORM=json.dumps(transform)) | more
        found.append(tile_stream(tile, **comments))
    return found


TILES = tiles_of(PIXELS)


def index_of(kind: str, sizes: list[int], start: int = 0, end: int = 0) -> dict:
    """An index in the seed's words; `end` is 1 where the last byte is included."""
    entries = []
    for number, (row, col, height, width) in enumerate(WINDOWS):
        bbox = [500000 + 10 * col, 4000000 - 10 * (row + height)]
        bbox += [500000 + 10 * (col + width), 4000000 - 10 * row]
        nbytes = sizes[number]
        if kind == "frames":
            window = {"row_off": row, "col_off": col, "height": height, "width": width}
            where = {"byte_offset": start, "byte_size": nbytes}
            entry = {"frame_id": number, "bbox": bbox, "window": window} | where
        else:
            where = {"byte_range": [start, start + nbytes - end]}
            entry = {"id": number, "bbox": bbox, "window": [col, row, width, height]}
            entry |= where
        entries.append(entry)
        start += nbytes
    return {kind: entries}


def container(index: dict, tiles: list[bytes], pad: int = 0) -> bytes:
    text = json.dumps(index).encode().ljust(pad)
    return struct.pack(">I", len(text)) + text + b"".join(tiles)


SIZES = [len(tile) for tile in TILES]
GEO = {"crs": "EPSG:32633", "transform": [*TRANSFORM, 0.0, 0.0, 1.0]}


def absolute(end: int) -> bytes:
    pad = 2000
    return container(index_of("tiles", SIZES, 4 + pad, end), TILES, pad)


INDEXED = {
    "frames": container(index_of("frames", SIZES) | GEO, TILES),
    "frames-no-georef": container(index_of("frames", SIZES), TILES),
    "tiles-inclusive": container(index_of("tiles", SIZES, end=1), TILES),
    "tiles-half-open": container(index_of("tiles", SIZES), TILES),
    "tiles-absolute-inclusive": absolute(1),
    "tiles-absolute-half-open": absolute(0),
    "tiles-total": container(
        index_of("tiles", SIZES, end=1) | {"total_bytes": sum(SIZES)}, TILES
    ),
    "bytes-behind": container(index_of("frames", SIZES) | GEO, TILES) + bytes(99),
}


@pytest.mark.parametrize("name", INDEXED)
def test_the_seed_s_indexes_are_read(name):
    with FlacRaster.open(INDEXED[name]) as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)
        info = raster.array()
        assert (info.dtype, info.tile, info.nodata) == ("int16", (1, TILE, TILE), (-1,))
        assert raster.georef.crs == "EPSG:32633"
        assert raster.georef.transform == TRANSFORM
        part = raster.read_selection((slice(0, 1), slice(30, 40), slice(60, 70)))
    np.testing.assert_array_equal(part, PIXELS[:, 30:40, 60:70])


@pytest.mark.parametrize("name", [*INDEXED, "concatenated", "one"])
@pytest.mark.parametrize("prefetch", [42, 500, 5000])
def test_a_short_first_read_is_enough(tmp_path, name, prefetch):
    made = {"concatenated": concatenated("frames"), "one": TILES[0]}
    path = tmp_path / "old.flac"
    path.write_bytes((INDEXED | made)[name])
    expected = PIXELS[:, :TILE, :TILE] if name == "one" else PIXELS
    with FlacRaster.open(path, prefetch=prefetch) as raster:
        np.testing.assert_array_equal(raster.read(), expected)


@pytest.mark.parametrize("name", [*INDEXED, "concatenated"])
def test_an_index_is_read_where_nobody_tells_the_size(name):
    data = (INDEXED | {"concatenated": concatenated("frames")})[name]

    def read_range(start: int, stop: int) -> bytes:
        assert stop <= len(data)
        return data[start:stop]

    found = read_legacy(data[:100], None, read_range)
    known = read_legacy(data, len(data), read_range)
    np.testing.assert_array_equal(found.tables[0].rows, known.tables[0].rows)
    assert found.header == known.header


def test_one_stream_needs_a_size():
    with pytest.raises(FormatError, match="tells its size"):
        read_legacy(TILES[0], None, lambda start, stop: TILES[0][start:stop])


def test_an_index_in_any_order_is_read():
    index = index_of("frames", SIZES)
    index["frames"].reverse()
    with FlacRaster.open(container(index, TILES)) as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)


def concatenated(kind: str, end: int = 0) -> bytes:
    """Streams one after another, the index in the first one's comments."""
    bare = [
        tile_stream(PIXELS[:, row : row + height, col : col + width])
        for row, col, height, width in WINDOWS
    ]
    index = json.dumps(index_of(kind, [len(b) for b in bare], end=end)).encode()
    packed = base64.b64encode(gzip.compress(index)).decode()
    _, _, height, width = WINDOWS[0]
    first = tile_stream(
        PIXELS[:, :height, :width],
        **describe(PIXELS, TRANSFORM=list(TRANSFORM), SPATIAL_INDEX=packed),
    )
    return b"".join([first, *bare[1:]])


@pytest.mark.parametrize(("kind", "end"), [("frames", 0), ("tiles", 0), ("tiles", 1)])
@pytest.mark.parametrize("tail", [b"", bytes(50)])
def test_the_concatenated_form_is_read(kind, end, tail):
    with FlacRaster.open(concatenated(kind, end) + tail) as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)
        assert raster.georef.transform == TRANSFORM


def test_the_raw_form_without_a_stretch_holds_pixels():
    pixels = RNG.integers(-300, 300, (3, 20, 30)).astype("int16")
    data = tile_stream(pixels, **describe(pixels, TRANSFORM="[1, 0, 7, 0, -1, 9]"))
    with FlacRaster.open(data) as raster:
        np.testing.assert_array_equal(raster.read(), pixels)
        assert raster.georef.transform == (1, 0, 7, 0, -1, 9)
        assert raster.array().dims == ("band", "y", "x")
    with (
        FlacRaster.open(data.replace(b"DTYPE=int16", b"DTYPE=uint8")) as raster,
        pytest.raises(FormatError, match="no uint8 pixels"),
    ):
        raster.read()


# ---------------------------------------------------------------- refused


def altered(change) -> bytes:
    index = index_of("frames", SIZES) | GEO
    change(index)
    return container(index, TILES)


def entry(k: int, **values):
    return lambda index: index["frames"][k].update(values)


def window(k: int, **values):
    return lambda index: index["frames"][k]["window"].update(values)


REFUSED = {
    "no tiles": (lambda index: index.update(frames=[]), "expected tiles"),
    "tiles are no list": (lambda index: index.update(frames=3), "expected tiles"),
    "entry is no object": (lambda index: index["frames"].append(3), "an object"),
    "offset missing": (lambda index: index["frames"][0].pop("byte_offset"), "offset"),
    "offset negative": (entry(0, byte_offset=-1), "whole number"),
    "offset true": (entry(0, byte_offset=True), "whole number"),
    "offset huge": (entry(1, byte_offset=1 << 80), "whole number"),
    "offset past the end": (entry(1, byte_offset=1 << 40), "no FLAC streams"),
    "size zero": (entry(1, byte_size=0), "no FLAC streams"),
    "tiles overlap": (entry(1, byte_offset=100), "no FLAC streams"),
    "no FLAC there": (entry(0, byte_offset=1, byte_size=9), "no FLAC streams"),
    "a hole": (lambda index: index["frames"].pop(1), "do not fill"),
    "no corner": (lambda index: index["frames"].pop(0), "row 0, column 0"),
    "twice": (window(1, col_off=0), "twice|no tile of a regular"),
    "unequal": (window(1, width=31), "regular grid"),
    "empty window": (window(1, width=0), "empty window"),
    "terabytes": (window(5, row_off=1 << 30), "do not fill|regular"),
    "another width": (lambda index: index.update(width=71), "width 71"),
    "crs no text": (lambda index: index.update(crs=4326), "expected text"),
    "crs a file": (lambda index: index.update(crs="+init=/etc/passwd:1"), "a file"),
    "transform short": (lambda index: index.update(transform=[1, 2]), "transform"),
    "transform text": (lambda index: index.update(transform=["a"] * 6), "transform"),
    "transform NaN": (
        lambda index: index.update(transform="[nan,0,0,0,1,0]"),
        "finite",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_index_is_refused_with_the_reason(name):
    change, reason = REFUSED[name]
    with pytest.raises(FormatError, match=reason):
        FlacRaster.open(altered(change))


def single(**comments: object) -> bytes:
    pixels = PIXELS[:, :9, :9]
    return tile_stream(pixels, **(describe(pixels) | comments))


REFUSED_STREAMS = {
    "sound": (tile_stream(PIXELS[:, :9, :9]), "sound, not a raster"),
    "unknown dtype": (single(DTYPE="int7"), "unknown dtype"),
    "complex": (single(DTYPE="complex64"), "expected integers or floats"),
    "width zero": (single(WIDTH=0), "GEOSPATIAL_WIDTH"),
    "width text": (single(WIDTH="wide"), "GEOSPATIAL_WIDTH"),
    "terabytes": (single(WIDTH=10**9, HEIGHT=10**9), "above the limit"),
    "bands": (single(COUNT=2), "channels"),
    "nodata": (single(NODATA="some"), "GEOSPATIAL_NODATA"),
    "transform": (single(TRANSFORM="__import__('os')"), "transform"),
    "minimum alone": (single(DATA_MIN="3"), "DATA_MIN/MAX"),
    "index no base64": (single(SPATIAL_INDEX="%%%"), "does not inflate"),
    "index no gzip": (single(SPATIAL_INDEX="AAAA"), "does not inflate"),
    "index cut off": (
        single(SPATIAL_INDEX=base64.b64encode(gzip.compress(b"{}")[:-9]).decode()),
        "cut off",
    ),
    "index of nothing": (
        single(SPATIAL_INDEX=base64.b64encode(gzip.compress(b"{}")).decode()),
        "neither frames nor tiles",
    ),
}


@pytest.mark.parametrize("name", REFUSED_STREAMS)
def test_a_malformed_stream_is_refused_with_the_reason(name):
    data, reason = REFUSED_STREAMS[name]
    with pytest.raises(FormatError, match=reason):
        FlacRaster.open(data)


def test_an_index_that_inflates_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("flac_xarray.legacy.tile_list.MAX_HEADER_NBYTES", 1000)
    bomb = base64.b64encode(gzip.compress(bytes(10**6))).decode()
    with pytest.raises(FormatError, match="inflates to more than"):
        FlacRaster.open(single(SPATIAL_INDEX=bomb))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"\x00\x00\x00\x02{}", b"PK\x03\x04{}"])
def test_other_files_are_not_ours(data):
    assert read_legacy(data, len(data), lambda start, stop: data[start:stop]) is None
    with pytest.raises(FormatError):
        FlacRaster.open(data)


def read_all(data: bytes) -> None:
    with warnings.catch_warnings(action="ignore", category=LossyFileWarning):
        try:
            with FlacRaster.open(data) as raster:
                raster.read(threads=1)
        except FormatError:
            pass


SEEDS = [*INDEXED.values(), concatenated("frames"), single(), TILES[0]]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["window", "bbox", "byte_range", "byte_offset", "byte_size"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_magic_give_a_value_or_a_format_error(tail):
    read_all(b"fLaC" + tail)
    read_all(struct.pack(">I", len(tail) + 1) + b"{" + tail)


@settings(max_examples=200)
@given(JSON, st.sampled_from(["frames", "tiles", "crs", "transform", "width"]))
def test_any_json_gives_a_value_or_a_format_error(value, key):
    index = index_of("frames", SIZES) | {key: value}
    read_all(container(index, TILES))
    read_all(container({key: [value]}, TILES))


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.data())
def test_a_damaged_file_gives_a_value_or_a_format_error(data, draw):
    broken = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        broken[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(
            st.integers(0, 255)
        )
    read_all(bytes(broken[: draw.draw(st.integers(0, len(data)))]))
    read_all(bytes(broken))


# ---------------------------------------------------------------- comments


@pytest.mark.parametrize(
    "text",
    [
        "[10.0, 0.0, 500000.0, 0.0, -10.0, 4000000.0]",
        "[10.0,0.0,500000.0,0.0,-10.0,4000000.0,0.0,0.0,1.0]",
        "(10.0, 0.0, 500000.0, 0.0, -10.0, 4e6)",
        "Affine(10.0, 0.0, 500000.0,\n       0.0, -10.0, 4000000.0)",
        "| 10.00, 0.00, 500000.00|\n| 0.00,-10.00, 4000000.00|\n| 0.00, 0.00, 1.00|",
        base64.b64encode(json.dumps([*TRANSFORM, 0, 0, 1]).encode()).decode(),
    ],
)
def test_every_way_to_print_a_transform_is_read(text):
    assert unpack_affine(text) == TRANSFORM


@pytest.mark.parametrize("text", ["", "None", "[]", "[1,0,0,0,1,0]"])
def test_no_transform_is_none(text):
    assert unpack_affine([] if text == "[]" else text) is None


@pytest.mark.parametrize(
    ("text", "dtype", "value"),
    [
        ("None", "uint8", None),
        ("", "uint8", None),
        ("255.0", "uint8", 255),
        ("-9999", "int16", -9999),
        ("-3.4e+38", "float32", -3.4e38),
        ("NaN", "float32", "nan"),
        ("nan", "float32", "nan"),
        ("inf", "float32", float("inf")),
    ],
)
def test_nodata_texts(text, dtype, value):
    found = read_nodata({"GEOSPATIAL_NODATA": text}, dtype)
    assert (str(found) if found != found else found) == value  # noqa: PLR0124


# ---------------------------------------------------------------- bare tiles


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float32", "complex64"])
@pytest.mark.parametrize("tile", [(1, 16, 16), (3, 16, 16)])
def test_a_tile_cut_out_of_a_container_is_a_dataset(dtype, tile):
    pixels = RNG.integers(0, 2, (3, 40, 50)).astype(dtype)
    nodata = None if dtype in ("bool", "complex64") else 9
    data = encode_array(
        pixels, tile_size=tile, crs="EPSG:32633", transform=TRANSFORM, nodata=nodata
    )
    with FlacRaster.open(data) as raster:
        cut = raster.read_tile_bytes((0, 2, 1))
    with FlacRaster.open(cut) as raster:
        found = raster.read()
        info = raster.array()
        assert (info.dtype, info.dims) == (dtype, ("band", "y", "x"))
        assert info.nodata == (nodata,)
        assert raster.georef.crs == "EPSG:32633"
        assert raster.bounds() == (500160.0, 3999600.0, 500320.0, 3999680.0)
        corner = raster.read_selection((slice(0, 1), slice(1, 3), slice(4, 9)))
    expected = pixels[: tile[0], 32:40, 16:32]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(corner, expected[:1, 1:3, 4:9])


def test_a_bare_tile_without_bands_or_georeference():
    pixels = RNG.integers(0, 9, (20, 30)).astype("uint8")
    with FlacRaster.open(encode_array(pixels)) as raster:
        cut = raster.read_tile_bytes((0, 0))
    with FlacRaster.open(cut) as raster:
        assert raster.array().dims == ("y", "x")
        assert (raster.georef.crs, raster.georef.transform) == (None, None)
        np.testing.assert_array_equal(raster.read(), pixels)


def test_our_tiles_behind_a_seed_s_index():
    with FlacRaster.open(encode_array(PIXELS, tile_size=TILE)) as raster:
        grid = raster.array().grid
        tiles = [raster.read_tile_bytes(grid.index(k)) for k in range(grid.n_tiles)]
    data = container(index_of("frames", [len(t) for t in tiles]) | GEO, tiles)
    with FlacRaster.open(data) as raster:
        np.testing.assert_array_equal(raster.read(), PIXELS)


def test_the_engine_opens_legacy_files(tmp_path):
    path = tmp_path / "old.flac"
    path.write_bytes(INDEXED["frames"])
    with xr.open_dataset(path, engine="flacraster", mask_and_scale=False) as dataset:
        np.testing.assert_array_equal(dataset["band_data"].values, PIXELS)
        assert dataset.rio.crs.to_epsg() == 32633


# ---------------------------------------------------------------- flac-raster's files

CASES = [
    (dtype, bands)
    for dtype in ("uint8", "int16", "uint16", "float32", "int32")
    for bands in (1, 3)
] + [("wide", 1), ("wrapping", 1), ("constant", 1)]


def source_pixels(name: str, bands: int) -> np.ndarray:
    shape = (bands, HEIGHT, WIDTH)
    if name == "float32":
        return (RNG.random(shape) * 2 - 1).astype("float32")
    if name == "wide":
        return RNG.integers(0, 60000, shape).astype("uint16")
    if name == "wrapping":
        return RNG.integers(-30000, 30000, shape).astype("int16")
    if name == "constant":
        return np.full(shape, 77, "uint8")
    pixels = RNG.integers(0, 251, shape).astype(name)
    pixels[:, ::7, ::5] = 255 if name == "uint8" else 3000
    return pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """GeoTIFFs, their files in flac-raster's three forms, and what it gives back."""
    if importlib.util.find_spec("flac_raster") is None:
        pytest.skip("flac-raster is not installed")
    folder = tmp_path_factory.mktemp("flac-raster")
    for name, bands in CASES:
        pixels = source_pixels(name, bands)
        with rasterio.open(
            folder / f"{name}{bands}.tif",
            "w",
            driver="GTiff",
            count=bands,
            height=HEIGHT,
            width=WIDTH,
            dtype=pixels.dtype,
            crs="EPSG:32633",
            transform=Affine(*TRANSFORM),
            nodata=7,
        ) as dst:
            dst.write(pixels)
    script = Path(__file__).with_name("flac_raster_files.py")
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "make", str(folder)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder


LOSSLESS = ("uint8", "int16", "uint16", "constant")


def open_old(path: Path) -> tuple[FlacRaster, np.ndarray, bool]:
    """Open and read; whether a warning said that values are lost."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LossyFileWarning)
        raster = FlacRaster.open(path)
        pixels = raster.read()
    return raster, pixels, bool(caught)


def returned(path: Path) -> np.ndarray:
    with rasterio.open(path) as src:
        return src.read()


@pytest.mark.parametrize(("name", "bands"), CASES)
def test_the_raw_form_reads_as_flac_raster_reads_it(folder, name, bands):
    stem = f"{name}{bands}"
    raster, found, is_lossy = open_old(folder / f"{stem}-raw.flac")
    np.testing.assert_array_equal(found, returned(folder / f"{stem}-raw.back"))
    original = returned(folder / f"{stem}.tif")
    assert (found.dtype, found.shape) == (original.dtype, original.shape)
    assert is_lossy == (name not in LOSSLESS)
    if not is_lossy:
        np.testing.assert_array_equal(found, original)
    assert raster.georef.crs == "EPSG:32633"
    assert raster.georef.transform == TRANSFORM
    assert raster.array().nodata == (7,)


@pytest.mark.parametrize(("name", "bands"), CASES)
def test_the_streaming_form_reads_as_flac_raster_reads_it(folder, name, bands):
    stem = f"{name}{bands}-streaming"
    raster, found, is_lossy = open_old(folder / f"{stem}.flac")
    for number, (row, col, height, width) in enumerate(WINDOWS):
        tile = returned(folder / f"{stem}-{number}.back")
        np.testing.assert_array_equal(
            found[:, row : row + height, col : col + width], tile
        )
    assert is_lossy == (name not in LOSSLESS)
    assert raster.array().tile == (1, TILE, TILE)
    assert raster.georef.transform == TRANSFORM


@pytest.mark.parametrize(("name", "bands"), CASES)
def test_the_spatial_form_reads_as_flac_raster_reads_it(folder, name, bands):
    stem = f"{name}{bands}-spatial"
    raster, found, is_lossy = open_old(folder / f"{stem}.flac")
    # flac-raster decodes the tiles one after another and takes them for rows.
    in_order = [
        found[:, row : row + height, col : col + width].reshape(bands, -1)
        for row, col, height, width in WINDOWS
    ]
    expected = returned(folder / f"{stem}.back")
    np.testing.assert_array_equal(
        np.concatenate(in_order, axis=1), expected.reshape(bands, -1)
    )
    assert is_lossy == (name != "constant")
    assert raster.array().tile == (bands, TILE, TILE)
    assert raster.georef.crs == "EPSG:32633"
    assert raster.georef.transform == TRANSFORM


def test_the_spatial_form_s_tiles_lie_where_their_windows_say(folder):
    """uint8 is all that survives there: 0 becomes 127, the rest 128 (of 0..255)."""
    _, found, _ = open_old(folder / "uint81-spatial.flac")
    original = returned(folder / "uint81.tif")
    assert original.min() == 0
    np.testing.assert_array_equal(found == 127, original == 0)


def test_opening_a_streaming_file_reads_its_index_and_one_tile_s_comments(tmp_path):
    pixels = RNG.integers(0, 250, (1, 600, 600)).astype("int16")
    rows = [pixels[:, k : k + 100] for k in range(0, 600, 100)]
    tiles = [tile_stream(row, **describe(row)) for row in rows]
    frames, start = [], 0
    for k, tile in enumerate(tiles):
        window = {"row_off": 100 * k, "col_off": 0, "height": 100, "width": 600}
        where = {"byte_offset": start, "byte_size": len(tile)}
        frames.append({"frame_id": k, "window": window} | where)
        start += len(tile)
    path = tmp_path / "streaming.flac"
    path.write_bytes(container({"frames": frames}, tiles))
    with FlacRaster.open(path) as raster:
        assert raster.stats.nbytes <= (64 << 10) + (16 << 10) + 8
        part = raster.read_selection((slice(0, 1), slice(250, 260), slice(0, 600)))
        assert raster.stats.nbytes <= (80 << 10) + 8 + len(tiles[2])
    np.testing.assert_array_equal(part, pixels[:, 250:260])


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=50),
    st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
)
def test_the_stretch_is_undone_with_flac_raster_s_arithmetic(values, dtype, low, width):
    converter = pytest.importorskip("flac_raster.converter").RasterFLACConverter()
    samples = np.array(values, np.int16)
    with np.errstate(all="ignore"):
        expected = converter._denormalize_from_audio(  # noqa: SLF001
            samples / 32768.0, np.dtype(dtype), low, low + width
        )
    found = undo_stretch(samples, 16, dtype, Stretch(low, low + width))
    np.testing.assert_array_equal(found, expected)


@given(st.integers(-32768, 65535), st.integers(1, 65535))
def test_where_no_loss_is_promised_flac_raster_loses_nothing(low, width):
    converter = pytest.importorskip("flac_raster.converter").RasterFLACConverter()
    dtype = "uint16" if low >= 0 else "int16"
    high = min(low + width, np.iinfo(dtype).max)
    if high <= low:
        return
    values = np.arange(low, high + 1).astype(dtype)
    with np.errstate(all="ignore"):
        samples = converter._normalize_to_audio(values, 16)  # noqa: SLF001
    stretch = Stretch(float(low), float(high))
    found = undo_stretch(samples, 16, dtype, stretch)
    is_lossless = np.array_equal(found, values)
    assert (lossy_reason(dtype, 16, stretch) is None) == is_lossless


def test_a_stretch_over_65536_is_the_identity():
    stretch = Stretch(-32768.0, 32768.0)
    samples = np.arange(-32768, 32768).astype("int16")
    np.testing.assert_array_equal(undo_stretch(samples, 16, "int16", stretch), samples)
    assert lossy_reason("int16", 16, stretch) is None


def test_a_foreign_sound_file_is_named_as_such():
    with pytest.raises(NotFlacRasterError, match="sound"):
        FlacRaster.open(tile_stream(PIXELS[:, :9, :9]))


# -- every command, on files that flac-raster made


FORMS = [
    f"{name}-{form}"
    for name in ("int161", "uint163", "float321", "wide1")
    for form in ("raw", "streaming", "spatial")
]


def run(*words: object, code: int = 0) -> str:
    with warnings.catch_warnings(action="ignore", category=LossyFileWarning):
        result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


@pytest.mark.parametrize("name", FORMS)
def test_every_command_works_on_every_form(folder, tmp_path, name):
    path = folder / f"{name}.flac"
    _, pixels, is_lossy = open_old(path)
    bands = len(pixels)
    info = json.loads(run("info", path, "--json"))
    assert info["arrays"][0]["shape"] == [bands, HEIGHT, WIDTH]
    assert info["crs"] == "EPSG:32633"
    tiles = json.loads(run("spatial-info", path, "--json"))["tiles"]
    assert len(tiles) == (1 if "raw" in name else 6)
    data = path.read_bytes()
    for tile in tiles:
        first, last = tile["byte_range"]
        assert data[first : first + 4] == b"fLaC"
        assert last < len(data)
    box = "500400,3999500,500700,3999900"  # cols 40 to 70, rows 10 to 50
    told = json.loads(run("query", path, "--bbox", box, "--json"))
    assert told["window"] == [40, 10, 30, 40]
    assert len(told["tiles"]) == (1 if "raw" in name else 4)
    expected = {
        ("--bbox", box): pixels[:, 10:, 40:],
        ("--window", "3,5,20,10"): pixels[:, 5:15, 3:23],
        ("--tile-id", "0"): pixels if "raw" in name else pixels[:, :TILE, :TILE],
        ("--last",): pixels if "raw" in name else pixels[:, TILE:, 2 * TILE :],
        ("--center", "--savings"): None,
    }
    for words, part in expected.items():
        run("extract", path, *words, "-o", tmp_path / "part.tif", "--force")
        if part is not None:
            np.testing.assert_array_equal(returned(tmp_path / "part.tif"), part)
    run("convert", path, "-o", tmp_path / "all.tif")
    np.testing.assert_array_equal(returned(tmp_path / "all.tif"), pixels)
    assert "equal" in run("compare", path, tmp_path / "all.tif")
    report = json.loads(run("validate", path, "--full", "--json"))
    assert (report["valid"], report["tiles_checked"]) == (True, len(tiles))
    assert any("lost" in w or "come back" in w for w in report["warnings"]) == is_lossy
    if name.startswith("int161"):
        assert "bit for bit" in run("demo", path)


@pytest.mark.parametrize("name", FORMS)
def test_the_engine_opens_every_form_lazily(folder, name):
    path = folder / f"{name}.flac"
    _, pixels, _ = open_old(path)
    options = {"engine": "flacraster", "mask_and_scale": False}
    with warnings.catch_warnings(action="ignore", category=LossyFileWarning):
        with xr.open_dataset(path, **options) as dataset:
            array = dataset["band_data"]
            side = (HEIGHT, WIDTH) if "raw" in name else (TILE, TILE)
            assert tuple(c[0] for c in array.chunks[1:]) == side
            np.testing.assert_array_equal(array.values, pixels)
        with RangeServer(folder) as server:
            with xr.open_dataset(server.url_of(path.name), **options) as dataset:
                corner = dataset["band_data"][:, 40:45, 66:69].values
            moved = server.bytes[f"/{path.name}"]
    np.testing.assert_array_equal(corner, pixels[:, 40:45, 66:69])
    assert moved <= path.stat().st_size + (64 << 10)


def test_of_the_spatial_form_too_only_what_is_needed_is_read(tmp_path):
    """Its index is in the first tile: that, four bytes and one tile are moved."""
    pixels = RNG.integers(-30000, 30000, (1, 600, 600)).astype("int16")
    windows = [(k, 0, 100, 600) for k in range(0, 600, 100)]
    bare = [tile_stream(pixels[:, k : k + 100]) for k in range(0, 600, 100)]
    frames, start = [], 0
    for k, (row, col, height, width) in enumerate(windows):
        place = {"row_off": row, "col_off": col, "height": height, "width": width}
        where = {"byte_offset": start, "byte_size": len(bare[k])}
        frames.append({"frame_id": k, "window": place} | where)
        start += len(bare[k])
    packed = base64.b64encode(gzip.compress(json.dumps({"frames": frames}).encode()))
    first = tile_stream(
        pixels[:, :100],
        **describe(pixels, TRANSFORM=list(TRANSFORM), SPATIAL_INDEX=packed.decode()),
    )
    path = tmp_path / "spatial.flac"
    path.write_bytes(b"".join([first, *bare[1:]]))
    with FlacRaster.open(path) as raster:
        assert raster.stats.nbytes <= (64 << 10) + 8
        part = raster.read_selection((slice(0, 1), slice(450, 460), slice(0, 600)))
        assert raster.stats.nbytes <= (64 << 10) + 8 + len(bare[4])
    np.testing.assert_array_equal(part, pixels[:, 450:460])


def test_a_raster_without_georeference_has_none():
    """An identity in the index is told, and its boxes are pixels: no north-up guess."""
    identity = {"crs": "None", "transform": [1, 0, 0, 0, 1, 0, 0, 0, 1]}
    index = index_of("frames", SIZES) | identity
    bare = tiles_of(PIXELS, CRS="None", TRANSFORM="[1, 0, 0, 0, 1, 0, 0, 0, 1]")
    index["frames"] = index_of("frames", [len(t) for t in bare])["frames"]
    with FlacRaster.open(container(index, bare)) as raster:
        assert (raster.georef.crs, raster.georef.transform) == (None, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            ("extract-streaming", "{s}", "--tile-id=1"),
            ("extract", "{s}", "--tile-id", 1),
        ),
        (("extract-streaming", "{s}", "--last"), ("extract", "{s}", "--last")),
        (
            ("extract-tile", "{s}", "-b", "500010,3999990,500020,3999995"),
            ("extract", "{s}", "--tile-id", 0),
        ),
        (("convert", "{s}", "-c", 3, "-v"), ("convert", "{s}")),
    ],
)
def test_the_words_of_flac_raster_are_understood(folder, tmp_path, old, new):
    source = str(folder / "int161-streaming.flac")
    for words, name in ((old, "old.tif"), (new, "new.tif")):
        told = [str(word).format(s=source) for word in words]
        run(*told, "-o", tmp_path / name)
    np.testing.assert_array_equal(
        returned(tmp_path / "old.tif"), returned(tmp_path / "new.tif")
    )


def test_create_streaming_and_targets_without_a_name(folder, tmp_path):
    tif = tmp_path / "a.tif"
    tif.write_bytes((folder / "int161.tif").read_bytes())
    run("create-streaming", tif, "-f")
    run("convert", tif, "-s", "-f", "--tile-size", "32", "-o", tmp_path / "b.flac")
    for name, side in (("a.flac", 1024), ("b.flac", 32)):
        with FlacRaster.open(tmp_path / name) as raster:
            assert raster.array().tile[1:] == (side, side)
            np.testing.assert_array_equal(raster.read(), returned(tif))
    run("convert", tmp_path / "b.flac")
    np.testing.assert_array_equal(returned(tmp_path / "b.tif"), returned(tif))
    run("convert", tmp_path / "b.flac", "--profile", "raw", code=2)
    told = CliRunner().invoke(main, ["convert", "none.flac", "-o", "none.tif"])
    assert (told.exit_code, told.stderr) == (1, "Error: none.flac: no such file\n")


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore::flac_xarray.errors.LossyFileWarning")
def test_gdal_opens_every_form(folder, name):
    path = folder / f"{name}.flac"
    raster, pixels, _ = open_old(path)
    register_gdal()
    with rasterio.open(f"/vsiflac/{path}") as src:
        np.testing.assert_array_equal(src.read(), pixels)
        part = rasterio.windows.Window(35, 20, 30, 25)
        np.testing.assert_array_equal(src.read(window=part), pixels[:, 20:45, 35:65])
        assert src.crs.to_epsg() == 32633
        assert tuple(src.transform)[:6] == TRANSFORM
        assert (src.nodata,) == raster.array().nodata
