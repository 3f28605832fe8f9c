"""The engine against NumPy, xarray's own arrays, and ``engine="rasterio"``."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from flac_xarray import convert_to_flac
from flac_xarray.array_writer import encode_array
from flac_xarray.errors import FormatError, NotFlacRasterError, SourceError
from flac_xarray.georef import Georef
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.range_server import RangeServer
from flac_xarray.sinks import MemorySink
from flac_xarray.tile_variable import TileVariable
from flac_xarray.writer import FlacRasterWriter
from flac_xarray.xarray_backend import FlacRasterBackend

pytestmark = [
    # rioxarray multiplies affines in a way that the affine package will drop.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Dataset has no geotransform"),
    pytest.mark.filterwarnings("ignore:(Scales|Offsets) differ across bands"),
]

SHAPE, TILE = (3, 100, 130), 32
PIXELS = np.random.default_rng(7).integers(-5, 3000, SHAPE).astype("int16")
UTM = {"crs": "EPSG:32618", "transform": (10.0, 0.0, 5e5, 0.0, -10.0, 4e6)}
FILE = encode_array(PIXELS, tile_size=TILE, nodata=-5, **UTM)
MASKED = np.where(PIXELS == -5, np.float32(np.nan), PIXELS.astype("float32"))
LAZY = {"chunks": None, "cache": False}


def open_raster(target=FILE, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine=FlacRasterBackend, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "scene.flac"
    target.write_bytes(FILE)
    return target


class RecordingFile(io.BytesIO):
    """An open file that remembers which bytes were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.reads.append((start, start + len(data)))
        return data

    @property
    def nbytes(self) -> int:
        return sum(stop - start for start, stop in self.reads)


# Chunks


@dataclass(frozen=True)
class ChunkCase:
    """What ``open_dataset`` is given, and the chunks along x that it makes."""

    name: str
    options: dict
    x_chunks: tuple[int, ...] | None


CHUNK_CASES = [
    ChunkCase("plain", {}, (32, 32, 32, 32, 2)),
    ChunkCase("as-tiles", {"chunks": {}}, (32, 32, 32, 32, 2)),
    ChunkCase("cached", {"chunks": {}, "cache": True}, (32, 32, 32, 32, 2)),
    ChunkCase("auto", {"chunks": "auto"}, (130,)),
    ChunkCase("two-tiles", {"chunks": {"x": 64}}, (64, 64, 2)),
    ChunkCase("one", {"chunks": -1}, (130,)),
    ChunkCase("lazy", LAZY, None),
]


@pytest.mark.parametrize("case", CHUNK_CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("masked", [True, False])
def test_chunks_follow_the_tiles(case, masked, path):
    array = open_raster(path, mask_and_scale=masked, **case.options).band_data
    assert type(array.variable) is (xr.Variable if case.x_chunks else TileVariable)
    assert array.chunksizes.get("x") == case.x_chunks
    np.testing.assert_array_equal(array, MASKED if masked else PIXELS)
    assert array.dtype == ("float32" if masked else "int16")


def test_auto_chunks_are_whole_multiples_of_tiles(path):
    with dask.config.set({"array.chunk-size": "20kB"}):
        array = open_raster(path, chunks="auto").band_data
    assert len(array.chunksizes["y"]) > 1
    for dim in ("y", "x"):
        assert all(n % TILE == 0 for n in array.chunksizes[dim][:-1])


def test_chunks_across_tiles_are_pointed_out(path):
    with pytest.warns(UserWarning, match="separate the stored chunks"):
        open_raster(path, chunks={"x": 50})


def test_no_dask_where_the_wrapping_has_another_type(monkeypatch):
    import xarray.core.indexing as internals

    class Moved(internals.MemoryCachedArray):
        __slots__ = ()

    wrapped = internals.MemoryCachedArray

    class Unrelated:
        pass

    backend = FlacRasterBackend()
    ds = backend.open_dataset(FILE)
    monkeypatch.setattr(internals, "MemoryCachedArray", Unrelated)
    variable = ds.variables["band_data"]
    variable.data = wrapped(variable._data)  # noqa: SLF001
    assert type(variable) is xr.Variable
    assert variable.chunks is None
    np.testing.assert_array_equal(variable.values, MASKED)


def test_an_open_reads_no_pixels():
    file = RecordingFile(FILE)
    ds = open_raster(file)
    assert file.nbytes <= 65536
    assert len(file.reads) == 1
    repr(ds)
    assert len(file.reads) == 1


# Indexing


INDEXERS = {
    "all": lambda a: a,
    "scalar": lambda a: a.isel(x=1),
    "negative-scalar": lambda a: a.isel(x=-2, y=-3),
    "zero-d": lambda a: a.isel(band=1, y=50, x=100),
    "slice": lambda a: a.isel(x=slice(10, 50), y=slice(20, 21)),
    "step": lambda a: a.isel(x=slice(3, None, 7)),
    "negative-step": lambda a: a.isel(x=slice(None, None, -1), y=slice(90, 5, -3)),
    "empty": lambda a: a.isel(x=slice(0, 0)),
    "beyond": lambda a: a.isel(x=slice(120, 500)),
    "list": lambda a: a.isel(x=[2, 0, 129, 2]),
    "two-lists": lambda a: a.isel(x=[99, 3], y=[0, 64, 1]),
    "booleans": lambda a: a.isel(x=np.arange(130) % 50 == 1),
    "points": lambda a: a.isel(
        x=xr.DataArray([5, 99, 5], dims="p"), y=xr.DataArray([1, 0, 98], dims="p")
    ),
    "point-grid": lambda a: a.isel(
        x=xr.DataArray([[5, 99], [0, -1]], dims=("p", "q")), band=[2, 0]
    ),
    "points-along-all": lambda a: a.isel(
        band=xr.DataArray([0, 2], dims="p"),
        y=xr.DataArray([99, 1], dims="p"),
        x=xr.DataArray([0, 129], dims="p"),
    ),
    "points-of-bands": lambda a: a.isel(band=xr.DataArray([2, 2, 0], dims="p")),
    "no-points": lambda a: a.isel(
        x=xr.DataArray(np.array([], int), dims="p"),
        y=xr.DataArray(np.array([], int), dims="p"),
    ),
    "twice": lambda a: a.isel(x=slice(5, 90, 2)).isel(
        x=[3, 1], y=slice(None, None, -2)
    ),
    "twice-points": lambda a: a.isel(
        x=xr.DataArray([5, 99, 5], dims="p"), y=xr.DataArray([1, 0, 98], dims="p")
    ).isel(p=[2, 0]),
    "transpose": lambda a: a.transpose("x", "band", "y").isel(x=slice(0, 3)),
}


@pytest.mark.parametrize("index", INDEXERS.values(), ids=INDEXERS)
@pytest.mark.parametrize("options", [LAZY, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "stored"])
def test_indexing_equals_that_of_numpy(index, options, masked):
    array = open_raster(mask_and_scale=masked, **options).band_data
    expected = array.copy(data=MASKED if masked else PIXELS)
    xr.testing.assert_identical(index(array).compute(), index(expected))


@pytest.mark.parametrize("index", INDEXERS.values(), ids=INDEXERS)
def test_what_an_index_selected_can_be_chunked(index):
    array = open_raster(mask_and_scale=False, **LAZY).band_data
    found = index(array).chunk().compute()
    xr.testing.assert_identical(found, index(array.copy(data=PIXELS)))


def positions(n: int):
    # xarray's own lazy arrays take slice(-n - 1, None, -1) for the whole axis.
    ends = st.none() | st.integers(-n, n + 3)
    return st.one_of(
        st.integers(-n, n - 1),
        st.builds(slice, ends, ends, st.none() | st.integers(-9, 9).filter(bool)),
        st.lists(st.integers(-n, n - 1), max_size=6).map(lambda p: np.array(p, int)),
        st.lists(st.integers(0, n - 1), min_size=4, max_size=4).map(
            lambda p: xr.DataArray(np.array(p, int), dims="p")
        ),
    )


@given(
    st.fixed_dictionaries(
        {}, optional=dict(zip(("band", "y", "x"), map(positions, SHAPE), strict=True))
    )
)
def test_any_indexer_equals_that_of_numpy(indexers):
    array = open_raster(**LAZY).band_data
    expected = array.copy(data=MASKED)
    xr.testing.assert_identical(array.isel(indexers), expected.isel(indexers))


NOISE = np.random.default_rng(1).integers(-30000, 30000, (2, 300, 300)).astype("int16")
NOISE_TILE = 100
NOISE_FILE = encode_array(NOISE, tile_size=NOISE_TILE)


@dataclass(frozen=True)
class TileCase:
    """An index and the number of tiles, of 18, that hold its pixels."""

    name: str
    indexers: dict
    n_tiles: int


TILE_CASES = [
    TileCase("pixel", {"band": 0, "y": 5, "x": 5}, 1),
    TileCase("row", {"band": 0, "y": 5}, 3),
    TileCase("column-of-bands", {"y": slice(0, 10), "x": slice(0, 10)}, 2),
    TileCase("nothing", {"x": slice(0, 0)}, 0),
    TileCase("step", {"band": 0, "y": slice(0, 300, 250), "x": 0}, 2),
    TileCase("lists", {"band": 0, "y": [0, 299], "x": [1, 298, 2]}, 4),
    TileCase(
        "points",
        {
            "band": 0,
            "y": xr.DataArray([0, 299, 150], dims="p"),
            "x": xr.DataArray([0, 299, 150], dims="p"),
        },
        3,
    ),
]


@pytest.mark.parametrize("case", TILE_CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("options", [LAZY, {}], ids=["lazy", "dask"])
def test_only_tiles_that_hold_pixels_are_read(case, options):
    if case.name == "nothing" and not options:
        pytest.skip("dask computes one chunk along an empty dim, to cut it away")
    file = RecordingFile(NOISE_FILE)
    array = open_raster(file, mask_and_scale=False, **options).band_data
    file.reads.clear()
    np.testing.assert_array_equal(
        array.isel(case.indexers), array.copy(data=NOISE).isel(case.indexers)
    )
    tile_nbytes = NOISE_TILE**2 * 2  # noise does not compress
    assert round(file.nbytes / tile_nbytes) == case.n_tiles


def test_neighbouring_tiles_are_read_in_one_request():
    file = RecordingFile(NOISE_FILE)
    array = open_raster(file, chunks={"band": 1, "y": -1, "x": -1}).band_data
    file.reads.clear()
    array[0].load(scheduler="synchronous")
    assert len(file.reads) == 1


def test_over_http_an_open_is_one_request_and_so_is_a_window(tmp_path):
    (tmp_path / "noise.flac").write_bytes(NOISE_FILE)
    with RangeServer(tmp_path) as server:
        url = server.url_of("noise.flac")
        ds = open_raster(url, mask_and_scale=False, **LAZY)
        assert server.requests.total() == 1
        assert server.bytes.total() <= 65536
        window = {"band": 1, "y": slice(110, 190), "x": slice(20, 290)}
        got = ds.band_data.isel(window).values
        assert server.requests.total() == 2
        np.testing.assert_array_equal(got, ds.band_data.copy(data=NOISE).isel(window))
        plain = pickle.loads(pickle.dumps(open_raster(url)))
        np.testing.assert_array_equal(plain.band_data, NOISE)


# Processes and files


@pytest.mark.parametrize("options", [LAZY, {}, {"chunks": {}}])
def test_pickles(path, options):
    ds = pickle.loads(pickle.dumps(open_raster(path, **options)))
    np.testing.assert_array_equal(ds.band_data, MASKED)


def test_tasks_pickle_small_and_name_the_state_of_the_file(path):
    array = open_raster(path, chunks={}).band_data.data
    again = open_raster(path, chunks={}).band_data.data
    plain = open_raster(path).band_data.data
    assert plain.name == open_raster(path).band_data.data.name
    sizes = [len(pickle.dumps(task)) for task in dict(again.dask).values()]
    assert max(sizes) < 1024
    assert max(len(pickle.dumps(t)) for t in dict(plain.dask).values()) < 1024
    assert array.npartitions == plain.npartitions
    other = encode_array(PIXELS + 1, tile_size=TILE, nodata=-5, **UTM)
    path.unlink()
    path.write_bytes(other)
    assert open_raster(path).band_data.data.name != plain.name


def test_a_replaced_file_is_refused_not_mixed(path):
    with open_raster(path) as ds:
        stale = pickle.loads(pickle.dumps(ds))
    path.unlink()
    path.write_bytes(encode_array(PIXELS[:1], tile_size=TILE))
    with pytest.raises(SourceError, match="replaced"):
        stale.band_data.isel(x=0).compute()


def test_reading_goes_on_after_close(path):
    ds = open_raster(path, **LAZY)
    with ds:
        np.testing.assert_array_equal(ds.band_data[0, 0], MASKED[0, 0])
    np.testing.assert_array_equal(ds.band_data[1, 0], MASKED[1, 0])


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_close_closes_the_file(path):
    def n_open() -> int:
        links = Path("/proc/self/fd").iterdir()
        return sum(link.exists() and link.samefile(path) for link in links)

    ds, other = open_raster(path), open_raster(path)
    ds.band_data[0, 0, 0].compute()
    ds.close()
    other.band_data[0, 0, 0].compute()
    other.close()
    assert n_open() == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")
def test_works_on_processes_and_reads_headers_once_each(path):
    distributed = pytest.importorskip("distributed")
    ds = open_raster(path, mask_and_scale=False)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert float(ds.band_data.sum()) == PIXELS.sum(dtype="int64")
        # A lambda pickles by value: workers need not find this module.
        opened = client.run(
            lambda: len(sys.modules["flac_xarray.lazy_array"]._open_rasters)  # noqa: SLF001
        )
    assert set(opened.values()) == {1}


def test_opens_paths_urls_bytes_and_files(path):
    import fsspec

    with fsspec.open("memory://scene.flac", "wb") as file:
        file.write(FILE)
    with path.open("rb") as file:
        for target in (
            path,
            str(path),
            path.as_uri(),
            "memory://scene.flac",
            FILE,
            memoryview(FILE),
            io.BytesIO(FILE),
            file,
        ):
            with open_raster(target) as ds:
                np.testing.assert_array_equal(ds.band_data, MASKED)
        assert not file.closed


def test_guess_can_open_looks_at_bytes_and_never_raises(path, tmp_path):
    other = tmp_path / "music.flac"
    other.write_bytes(b"fLaC" + bytes(1000))
    guess = FlacRasterBackend().guess_can_open
    yes = [path, str(path), path.as_uri(), FILE, io.BytesIO(FILE)]
    yes += ["https://host/a.flac?sig=x", "s3://bucket/a.FLAC"]
    no = [other, tmp_path, tmp_path / "missing.flac", "https://host/a.tif", b"", 7]
    no += [None, b"CDF\x01", io.BytesIO(b"x"), {}, "x" * 100_000, "https://["]
    assert [guess(t) for t in yes] == [True] * len(yes)
    assert [guess(t) for t in no] == [False] * len(no)


def test_files_are_recognised_without_naming_the_engine(path):
    plugins = xr.backends.list_engines()
    if "flacraster" not in plugins:
        pytest.skip("flac_xarray is not installed: its entry point is not there")
    assert xr.open_dataset(path).band_data.chunks is not None


def test_listing_engines_stays_light():
    code = (
        "import sys; import flac_xarray.xarray_backend; "
        "heavy = {'rasterio', 'rioxarray', 'pyflac', 'miniaudio', 'aiohttp', "
        "'fsspec', 'click', 'dask'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("junk", [b"", b"CDF\x01", bytes(500), FILE[:200]])
def test_other_bytes_are_a_format_error(junk):
    with pytest.raises(FormatError):
        open_raster(junk)


def test_a_tiff_is_named_as_what_it_is_not():
    with pytest.raises(NotFlacRasterError, match="a TIFF"):
        open_raster(b"II*\x00" + bytes(1000))


@pytest.mark.parametrize(("key", "value"), [("scale", "wide"), ("offset", None)])
def test_a_band_whose_scale_is_no_number(key, value):
    shape = (1, 4, 4)
    with pytest.raises(FormatError, match=f"band of array 'a'.*'{key}'.*{value}"):
        ArrayInfo("a", "uint8", ("band", "y", "x"), shape, shape, bands=({key: value},))


def test_a_crs_that_nobody_knows_is_a_format_error():
    array = ArrayInfo("a", "uint8", ("y", "x"), (4, 4), (4, 4))
    sink = MemorySink()
    with FlacRasterWriter(sink, Header((array,), Georef(crs="EPSG:0"))) as writer:
        writer.write(np.ones((4, 4), "uint8"))
    with pytest.raises(FormatError, match="CRS 'EPSG:0'"):
        open_raster(sink.value)


def test_nodata_that_no_pixel_can_have():
    data = encode_array(np.ones((4, 4), "uint8"), nodata=-9999)
    assert int(open_raster(data).band_data.sum()) == 16
    stored = open_raster(data, mask_and_scale=False).band_data
    assert stored.dtype == "uint8"
    assert "_FillValue" not in stored.attrs


def test_missing_file():
    with pytest.raises(FileNotFoundError):
        open_raster("/there/is/none.flac")


# Layout


def test_mask_and_scale_by_variable():
    assert open_raster(mask_and_scale={"band_data": False}).band_data.dtype == "int16"
    assert open_raster(mask_and_scale={"other": False}).band_data.dtype == "float32"
    assert open_raster(decode_cf=False).band_data.dtype == "int16"


def test_drop_variables():
    assert list(open_raster(drop_variables="band_data").data_vars) == []


def levels_file() -> bytes:
    infos = tuple(
        ArrayInfo("band_data", "uint8", ("band", "y", "x"), (1, n, n), (1, 8, 8), level)
        for level, n in enumerate((16, 8, 4))
    )
    sink = MemorySink()
    georef = Georef("EPSG:32618", UTM["transform"])
    with FlacRasterWriter(sink, Header(infos, georef)) as writer:
        for position, info in enumerate(infos):
            writer.write(np.full(info.shape, position, "uint8"), position=position)
    return sink.value


def test_overview_levels():
    data = levels_file()
    for level, n in ((None, 16), (0, 8), (1, 4)):
        ds = open_raster(data, overview_level=level, mask_and_scale=False)
        assert ds.sizes == {"band": 1, "y": n, "x": n}
        assert int(ds.band_data.max()) == {16: 0, 8: 1, 4: 2}[n]
        assert ds.rio.bounds() == (5e5, 4e6 - 160, 5e5 + 160, 4e6)
        assert ds.rio.resolution() == (160 / n, -160 / n)
    with pytest.raises(ValueError, match="the file has 2 overviews"):
        open_raster(data, overview_level=2)


def test_arrays_of_other_dims_and_several_variables():
    infos = (
        ArrayInfo("t", "float64", ("time", "y", "x"), (4, 5, 6), (1, 4, 4)),
        ArrayInfo("q", "int64", ("y", "x"), (5, 6), (4, 4), attrs={"units": "kg"}),
    )
    t, q = np.random.default_rng(0).random((4, 5, 6)), np.arange(30).reshape(5, 6)
    sink = MemorySink()
    with FlacRasterWriter(sink, Header(infos, attrs={"title": "x"})) as writer:
        writer.write(t)
        writer.write(q, position=1)
    ds = open_raster(sink.value)
    np.testing.assert_array_equal(ds.t, t)
    np.testing.assert_array_equal(ds.q, q)
    assert ds.q.dtype == "int64"  # float64 could not hold all of it
    assert ds.t.dims == ("time", "y", "x")
    assert ds.attrs == {"title": "x"}
    assert ds.q.attrs["units"] == "kg"


# The same dataset as rioxarray gives


def write_tif(target: Path, pixels: np.ndarray, **profile) -> Path:
    extra = {k: profile.pop(k) for k in list(profile) if k.startswith("_")}
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                target,
                "w",
                driver="GTiff",
                count=count,
                height=height,
                width=width,
                dtype=pixels.dtype,
                **profile,
            ) as tif,
        ):
            tif.write(pixels)
            if "_mask" in extra:
                tif.write_mask(extra["_mask"])
            for name, value in extra.get("_set", {}).items():
                setattr(tif, name, value)
            for bidx, tags in extra.get("_tags", {}).items():
                tif.update_tags(*([bidx] if bidx else []), **tags)
            for bidx, name in enumerate(extra.get("_names", ()), 1):
                tif.set_band_description(bidx, name)
    return target


PLACED = {"crs": "EPSG:32618", "transform": Affine(10.0, 0, 5e5, 0, -10.0, 4e6)}
ROTATED = Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(10, -10)


def small(dtype: str, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 7, (count, 20, 30)).astype(dtype)
    return rng.normal(size=(count, 20, 30)).astype(dtype)


def with_nan(pixels: np.ndarray) -> np.ndarray:
    pixels[..., ::3] = np.nan
    return pixels


VOID = np.where(np.indices((20, 30)).sum(0) % 4, 255, 0).astype("uint8")
TIFS = {
    **{
        d: (small(d), PLACED)
        for d in (
            "uint8",
            "int8",
            "int16",
            "uint16",
            "int32",
            "uint32",
            "float32",
            "float64",
            "complex64",
            "complex128",
        )
    },
    "nodata": (small("int16"), {**PLACED, "nodata": 3}),
    "nodata-int32": (small("int32"), {**PLACED, "nodata": 3}),
    "nodata-int64": (small("int64"), {**PLACED, "nodata": 3}),
    "nodata-nan": (with_nan(small("float32")), {**PLACED, "nodata": np.nan}),
    "nodata-inf": (small("float64"), {**PLACED, "nodata": np.inf}),
    "mask": (small("uint8", 3), {**PLACED, "_mask": VOID}),
    "alpha": (
        small("uint8", 4) // 4,
        {**PLACED, "photometric": "RGB", "alpha": "yes"},
    ),
    "grey-alpha-16": (
        small("uint16") // 5,
        {**PLACED, "_set": {"colorinterp": [ColorInterp.gray, ColorInterp.alpha]}},
    ),
    "three-bands-alpha-last": (
        small("uint8", 3) // 4,
        {
            **PLACED,
            "_set": {
                "colorinterp": [
                    ColorInterp.gray,
                    ColorInterp.undefined,
                    ColorInterp.alpha,
                ]
            },
        },
    ),
    "scaled": (
        small("int16"),
        {**PLACED, "nodata": 2, "_set": {"scales": (0.1,) * 2, "offsets": (5.0,) * 2}},
    ),
    "scaled-by-band": (
        small("uint16"),
        {**PLACED, "_set": {"scales": (0.1, 2.5), "offsets": (0.0, -7.0)}},
    ),
    "named": (
        small("uint8"),
        {**PLACED, "_names": ["red", "green"], "_set": {"units": ("m", "K")}},
    ),
    "named-alike": (small("uint8"), {**PLACED, "_names": ["z", "z"]}),
    "tagged": (
        small("uint8"),
        {
            **PLACED,
            "_tags": {
                0: {
                    "a": "1",
                    "b": "2.5",
                    "c": "{1,2,3.5}",
                    "d": "text",
                    "x#units": "m",
                    "e": "{no}",
                },
                1: {"STATISTICS_MEAN": "3.25"},
                2: {"other": "x"},
            },
        },
    ),
    "point": (small("uint8"), {**PLACED, "_tags": {0: {"AREA_OR_POINT": "Point"}}}),
    "geographic": (
        small("uint8"),
        {"crs": "EPSG:4326", "transform": Affine(0.1, 0, -5, 0, -0.1, 50)},
    ),
    "south-up": (
        small("uint8"),
        {"crs": "EPSG:4326", "transform": Affine(0.1, 0, -5, 0, 0.1, 50)},
    ),
    "no-crs": (small("uint8"), {"transform": PLACED["transform"]}),
    "nowhere": (small("uint8"), {}),
    "rotated": (small("uint8"), {"crs": "EPSG:32618", "transform": ROTATED}),
    "gcps": (
        small("uint8"),
        {
            "crs": "EPSG:4326",
            "gcps": [
                GroundControlPoint(0, 0, 10.0, 50.0, 7.0, "a", "first"),
                GroundControlPoint(20, 0, 10.0, 49.0),
                GroundControlPoint(0, 30, 11.0, 50.0),
                GroundControlPoint(20, 30, 11.0, 49.0),
            ],
        },
    ),
}
MODES = {
    "default": {},
    "stored": {"mask_and_scale": False},
    "bands": {"band_as_variable": True},
    "stored-bands": {"band_as_variable": True, "mask_and_scale": False},
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("name", TIFS)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_same_dataset_as_rioxarray(name, mode, tmp_path):
    pixels, profile = TIFS[name]
    tif = write_tif(tmp_path / "a.tif", pixels, **profile)
    flac = tmp_path / "a.flac"
    convert_to_flac(tif, flac, tile_size=16)
    with (
        xr.open_dataset(tif, engine="rasterio", **mode) as expected,
        open_raster(flac, **mode) as got,
    ):
        xr.testing.assert_identical(got, expected)
        for variable in expected.data_vars:
            assert_same_encoding(got[variable], expected[variable])


def assert_same_encoding(got: xr.DataArray, expected: xr.DataArray) -> None:
    # Tiles are ours; the name is another file's; identity scales are left out.
    aside = {"preferred_chunks", "source"}
    theirs = {k: v for k, v in expected.encoding.items() if k not in aside}
    if theirs.get("scale_factor") == 1.0:
        del theirs["scale_factor"]
    if theirs.get("add_offset") == 0.0:
        del theirs["add_offset"]
    ours = {k: v for k, v in got.encoding.items() if k not in aside}
    assert repr(sorted(ours.items())) == repr(sorted(theirs.items()))


def test_integers_of_64_bits_stay_integers(tmp_path):
    big = np.full((1, 20, 30), 2**62 + 1)
    tif = write_tif(tmp_path / "a.tif", big, **PLACED)
    convert_to_flac(tif, tmp_path / "a.flac")
    with open_raster(tmp_path / "a.flac") as ds:
        np.testing.assert_array_equal(ds.band_data, big)


REAL_TIFS = sorted(
    path.name for path in (Path(__file__).parents[2] / "shared/data").glob("*.tif")
)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", REAL_TIFS)
def test_same_dataset_as_rioxarray_on_real_rasters(name, real_data, tmp_path):
    flac = tmp_path / "a.flac"
    convert_to_flac(real_data / name, flac, tile_size=256)
    with (
        xr.open_dataset(real_data / name, engine="rasterio") as expected,
        open_raster(flac) as got,
    ):
        big = {"x": slice(1000, 3000), "y": slice(500, 2500)}
        window = big if expected.nbytes > 5e8 else {}
        xr.testing.assert_identical(got.isel(window), expected.isel(window))
        assert got.rio.crs == expected.rio.crs
        assert got.rio.transform() == expected.rio.transform()
