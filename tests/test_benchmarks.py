"""The codec benchmark, on a tiny raster and with peers that cheat."""

import json

import numpy as np
import pytest
import rasterio

from benchmarks import codec, report
from benchmarks.analysis import is_imagery, numbers
from benchmarks.base import Encoded, Raster, missing_modules, tile_cuts, tile_shape
from benchmarks.measure import identical, measure
from benchmarks.peers import OURS, PEERS

INSTALLED = [name for name, peer in PEERS.items() if not missing_modules(peer)]
SLOW = {"COG ZSTD 22", "COG ZSTD 22 no predictor"}
"""Level 22 takes a second a tile, however small."""

GEOREF = {
    "crs": rasterio.CRS.from_epsg(32633),
    "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
}

ZSTD = ["COG ZSTD", "Zarr zstd"]
DTYPES = [
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
    "complex64",
    "complex_int16",
]


def smooth(dtype, shape=(3, 70, 90), seed=7):
    """Seeded terrain-like pixels in any dtype."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-2, 3, shape)
    pixels = steps.cumsum(axis=1).cumsum(axis=2) // 8
    if dtype == "complex_int16":
        return (pixels % 999 - 500 + 1j * (pixels % 77)).astype("complex64")
    if dtype.startswith("complex"):
        return (pixels / 3 - 1j * pixels).astype(dtype)
    if dtype.startswith("float"):
        return (pixels / 7).astype(dtype)
    return pixels.astype(dtype)


@pytest.fixture
def raster_path(tmp_path):
    path = tmp_path / "small.tif"
    pixels = smooth("int16")
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        height=70,
        width=90,
        dtype="int16",
        nodata=-32768,
        **GEOREF,
    ) as out:
        out.write(pixels)
    return path


class Lossy:
    """Peer that changes one pixel of what it was given."""

    name = "lossy"
    requires = ()

    def holds(self, raster):
        return raster.array.size > 0

    def encode(self, raster, *_):
        return Encoded(1, raster.array.copy())

    def decode(self, encoded, *_):
        pixels = encoded.payload.copy()
        pixels[-1, -1, -1] += 1
        return pixels


class Faulty(Lossy):
    """Peer that cannot read what it wrote."""

    name = "faulty"

    def decode(self, *_):
        raise OSError("no such codec")


class Foreign(Lossy):
    """Peer whose library does not exist."""

    name = "foreign"
    requires = ("no_such_library",)


def test_table_json_and_plot_come_out(raster_path, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    codec.main(
        [
            str(raster_path),
            *("--tile", "64", "--threads", "1,2", "--repeat", "2"),
            *("--peers", "flac,deflate,lzw,lerc", "--effort", "0"),
            *("--json", str(out), "--plot", str(picture)),
        ]
    )
    printed = capsys.readouterr().out
    assert "### small.tif: 3 x 70 x 90 int16, 37,800 bytes" in printed
    assert "## Summary" in printed
    assert f"GDAL {rasterio.__gdal_version__}" in printed
    (raster,) = json.loads(out.read_text())["rasters"]
    assert {OURS.name, f"{OURS.name} 0", "COG DEFLATE"} <= set(raster["codecs"])
    for name, outcome in raster["codecs"].items():
        assert outcome["problem"] is None, name
        assert 0 < outcome["nbytes"] < 2 * raster["raw"], name
        assert set(outcome["encode_s"]) == set(outcome["decode_s"]) == {"1", "2"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    report.main([str(out)])
    assert capsys.readouterr().out in printed


def test_changed_pixel_is_found_and_does_not_count():
    raster = Raster("x", smooth("int16"), "int16")
    outcomes = measure(raster, [OURS, Lossy(), Faulty(), Foreign()], tile=64)
    assert outcomes[OURS.name].problem is None
    assert outcomes["lossy"].problem == "NOT LOSSLESS"
    assert outcomes["faulty"].problem == "OSError: no such codec"
    assert outcomes["foreign"].problem == "needs no_such_library"
    for name in ("lossy", "faulty", "foreign"):
        assert outcomes[name].nbytes is None
        assert not outcomes[name].decode_s


def test_lossy_peer_is_named_in_the_table(raster_path, monkeypatch, capsys):
    monkeypatch.setitem(PEERS, "lossy", Lossy())
    codec.main([str(raster_path), "--peers", "lossy,lzw", "--threads", "1"])
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("| lossy")][:1]
    assert "NOT LOSSLESS" in line


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([0.0], [-0.0], id="sign of zero"),
        pytest.param([1, 2], [1, 3], id="value"),
        pytest.param([[1, 2]], [1, 2], id="shape"),
        pytest.param(np.array([1], "u2"), np.array([1], "i2"), id="dtype"),
    ],
)
def test_bits_decide_what_is_identical(first, second):
    first, second = np.array(first), np.array(second)
    assert identical(first, first.copy())
    assert not identical(first, second)


def test_nan_payload_is_a_difference():
    first = np.array([0x7FC00000], "u4").view("f4")
    second = np.array([0x7FC00001], "u4").view("f4")
    assert identical(first, first)
    assert not identical(first, second)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in INSTALLED if name not in SLOW])
def test_peer_holds_what_it_says(name, dtype):
    peer = PEERS[name]
    raster = Raster("x", smooth(dtype), dtype)
    if not peer.holds(raster):
        return
    raster = Raster("x", raster.array, dtype, None, GEOREF)
    for threads in (1, 2):
        encoded = peer.encode(raster, 64, threads)
        assert encoded.nbytes > 0
        assert identical(peer.decode(encoded, raster, threads), raster.array)


def test_odd_floats_survive_ours_or_are_found():
    """A NaN with a payload and a negative zero, which equality cannot see."""
    array = smooth("float32")
    array.view("u4")[0, 0, :2] = 0x7FC00123, 0x80000000
    peers = [PEERS[name] for name in INSTALLED if name not in SLOW]
    outcomes = measure(Raster("x", array, "float32", None, GEOREF), peers, tile=64)
    assert outcomes[OURS.name].problem is None
    problems = {outcome.problem for outcome in outcomes.values()}
    assert problems <= {None, "NOT LOSSLESS", "no float32"}


def test_tiles_of_small_planes_take_several():
    assert tile_shape((392, 40, 40), 512) == (163, 40, 40)
    assert tile_shape((4, 2000, 300), 512) == (1, 512, 300)
    cuts = list(tile_cuts((2, 5, 3), (1, 4, 4)))
    assert cuts[1] == (slice(0, 1), slice(4, 5), slice(0, 3))
    assert len(cuts) == 4


def test_summary_compares_the_best_peer_with_ours():
    def raster(name, raw, sizes):
        codecs = {
            key: {"nbytes": value, "encode_s": {}, "decode_s": {}}
            for key, value in sizes.items()
        }
        return {"name": name, "raw": raw, "codecs": codecs}

    record = {
        "threads": [1],
        "rasters": [
            raster(
                "won", 10**6, {OURS.name: 100, "COG DEFLATE": 400, "Zarr zstd": 500}
            ),
            raster("lost", 10**6, {OURS.name: 200, "Zarr blosc": 100}),
            raster("small", 10**3, {OURS.name: 100, "pcodec 8": 50}),
        ],
    }
    found = numbers(record)
    assert found["best_peer_over_ours"] == pytest.approx(1)
    assert found["best_peer_over_ours_large"] == pytest.approx(2**0.5)
    assert found["wins"] == [1, 3]
    assert found["wins_large"] == [1, 2]
    assert found["losses"] == [("lost", "Zarr blosc", 2.0)]
    assert found["zstd22_over_ours"] is None


def test_unknown_codec_is_refused():
    with pytest.raises(ValueError, match="no codec 'gif'"):
        codec.chosen_peers("flac,gif")


def test_peers_are_chosen_by_parts_of_names():
    names = [peer.name for peer in codec.chosen_peers("FLAC, zstd", "22,lerc", "0,9")]
    assert names == ["flac_xarray", "flac_xarray 0", "flac_xarray 9", *ZSTD]


@pytest.mark.parametrize(
    ("raw", "jpeg2000", "patterns", "expected"),
    [
        pytest.param(10**6, 10, (), True, id="smaller than ZSTD"),
        pytest.param(10**6, 30, (), False, id="larger than ZSTD"),
        pytest.param(10**6, None, (), False, id="no integers"),
        pytest.param(10**6, 30, ("l8-*", "s2-*"), True, id="named"),
        pytest.param(10**6, 10, ("l8-*",), False, id="not named"),
        pytest.param(10**3, 10, ("s2-*",), False, id="small"),
    ],
)
def test_imagery_is_named_or_what_jpeg2000_is_good_at(
    raw, jpeg2000, patterns, expected
):
    codecs = {"JPEG 2000": {"nbytes": jpeg2000}, "COG ZSTD": {"nbytes": 20}}
    raster = {"name": "s2-x.tif", "raw": raw, "codecs": codecs}
    assert is_imagery(raster, patterns) is expected


def test_report_adds_sizes_but_no_speeds_of_another_run():
    def record(name, nbytes):
        outcome = {"nbytes": nbytes, "encode_s": {"1": 1.0}, "decode_s": {"1": 1.0}}
        raster = {"name": "x", "raw": 100, "codecs": {name: outcome}}
        return {"threads": [1], "rasters": [raster]}

    (raster,) = report.merged([record("a", 1), record("a", 2), record("b", 3)])[
        "rasters"
    ]
    assert raster["codecs"]["a"]["nbytes"] == 1
    assert raster["codecs"]["a"]["decode_s"] == {"1": 1.0}
    assert raster["codecs"]["b"]["nbytes"] == 3
    assert raster["codecs"]["b"]["decode_s"] == {}
    other = record("a", 1)
    other["rasters"][0]["raw"] = 50
    with pytest.raises(ValueError, match="two rasters of that name"):
        report.merged([record("a", 1), other])


def test_threads_name_all_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert codec.thread_counts("1,N, 2,1") == [1, 2, 6]


def test_a_plot_without_matplotlib_is_refused_at_once(
    raster_path, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        codec.main([str(raster_path), "--plot", str(tmp_path / "a.png")])
    assert "pip install matplotlib" in capsys.readouterr().err
