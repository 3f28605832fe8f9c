"""FLAC rasters through rasterio's own GDAL: everything equal to the source GeoTIFF."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.mask
import rasterio.merge
import rasterio.shutil
import rioxarray
from click.testing import CliRunner
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

import flac_xarray.rasterio
from flac_xarray import (
    ArrayInfo,
    FlacRaster,
    FlacRasterWriter,
    Header,
    convert_to_flac,
    register_gdal,
    write_array,
)
from flac_xarray.cli.rio import flac as rio_flac
from flac_xarray.geotiff import convert_to_legacy
from flac_xarray.range_server import RangeServer
from flac_xarray.vsi import options_for, vsi_path
from tests.test_geotiff import (
    PLACED,
    REAL_TIFS,
    SCENES,
    VOID,
    assert_same_bits,
    differences,
    make_tif,
    scene,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning"),
]

LAYOUT = {
    "profile blockxsize", "profile blockysize", "profile tiled", "profile compress",
    "profile interleave", "profile photometric", "block_shapes", "interleaving",
    "compression",
}  # fmt: skip
"""What an uncompressed tiled file says otherwise than its source."""


@pytest.fixture(scope="module", autouse=True)
def _registered():
    register_gdal()


def as_flac(source, folder, **options) -> Path:
    path = folder / f"{Path(source).stem}.flac"
    convert_to_flac(source, path, **{"effort": 0, **options})
    return path


def other_than_layout(a, b) -> set[str]:
    """What is reported otherwise; a table of 2 colours may have black ones after."""
    found = {name for name in differences(a, b) if "IMAGE_STRUCTURE" not in name}
    if "colormap 1" in found and "NBITS" in a.tags(1, ns="IMAGE_STRUCTURE"):
        assert a.colormap(1).items() <= b.colormap(1).items()
        found -= {"colormap 1"}
    return found - LAYOUT


def assert_same_dataset(a, b) -> None:
    assert other_than_layout(a, b) == set()
    assert_same_bits(a, b)
    np.testing.assert_array_equal(a.read_masks(), b.read_masks())


@pytest.mark.parametrize("name", SCENES)
def test_everything_rasterio_reports_is_that_of_the_source(name, tmp_path):
    pixels, profile = SCENES[name]
    source = make_tif(tmp_path / "a.tif", pixels, **profile)
    path = as_flac(source, tmp_path)
    with rasterio.open(source) as a, rasterio.open(vsi_path(path)) as b:
        assert_same_dataset(a, b)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL_TIFS)
def test_real_rasters_are_equal_with_their_overviews(name, real_data, tmp_path):
    expected = set()
    if name == "lc-cmap-dateline-int8.tif":
        expected = {"colorinterp", "colormap 1"}  # TIFF has none for int8
    if name in ("dem-lidar-TM1_564_146-f32.tif", "meta-esri-wkt.tif"):
        expected = {"wkt"}  # equal, with fewer words
    path = as_flac(real_data / name, tmp_path)
    with rasterio.open(real_data / name) as a, rasterio.open(vsi_path(path)) as b:
        assert other_than_layout(a, b) == expected
        assert [a.checksum(k) for k in a.indexes] == [b.checksum(k) for k in b.indexes]
        np.testing.assert_array_equal(a.dataset_mask(), b.dataset_mask())
        assert a.overviews(1) == b.overviews(1)
        n_levels = len(a.overviews(1))
    for k in range(n_levels):
        with (
            rasterio.open(real_data / name, overview_level=k) as a,
            rasterio.open(vsi_path(path), overview_level=k) as b,
        ):
            assert_same_bits(a, b)


@pytest.mark.parametrize("dtype", ["bool", "float16"])
def test_dtypes_that_gdal_lacks_are_shown_in_wider_ones(dtype, tmp_path):
    pixels = np.random.default_rng(1).normal(size=(2, 40, 50)).astype(dtype)
    write_array(tmp_path / "a.flac", pixels)
    with flac_xarray.rasterio.open(tmp_path / "a.flac") as found:
        wide = {"bool": "uint8", "float16": "float32"}[dtype]
        assert found.dtypes == (wide, wide)
        np.testing.assert_array_equal(found.read(), pixels.astype(wide))


@pytest.mark.parametrize("tile", [(1, 100, 100), (3, 33, 47), (2, 64, 64), (1, 7, 500)])
def test_tiles_of_any_shape(tile, tmp_path):
    pixels = scene("int16", count=3, height=230, width=310)
    write_array(tmp_path / "a.flac", pixels, tile_size=tile, overviews=(2, 5))
    with (
        FlacRaster.open(tmp_path / "a.flac") as raster,
        flac_xarray.rasterio.open(tmp_path / "a.flac") as found,
    ):
        np.testing.assert_array_equal(found.read(), pixels)
        np.testing.assert_array_equal(found.read(3), pixels[2])
        assert found.overviews(1) == [2, 5]
        for k, level in enumerate(raster.header.levels[1:]):
            with rasterio.open(vsi_path(tmp_path / "a.flac"), overview_level=k) as b:
                np.testing.assert_array_equal(b.read(), raster.read(level=level))


def test_overviews_of_a_mask_and_reads_that_use_them(tmp_path):
    pixels = scene(count=3, height=300, width=400)
    mask = np.where(np.indices((300, 400)).sum(0) % 90 < 60, 255, 0).astype("uint8")
    source = make_tif(tmp_path / "a.tif", pixels, **PLACED, _mask=mask)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(source, "r+") as out:
        out.build_overviews([2, 4])
    path = as_flac(source, tmp_path, tile_size=128)
    with rasterio.open(source) as a, rasterio.open(vsi_path(path)) as b:
        assert b.overviews(1) == [2, 4]
        assert_same_dataset(a, b)
        for shape in ((3, 150, 200), (3, 60, 77)):
            np.testing.assert_array_equal(
                a.read(out_shape=shape), b.read(out_shape=shape)
            )
            np.testing.assert_array_equal(
                a.read_masks(1, out_shape=shape[1:]),
                b.read_masks(1, out_shape=shape[1:]),
            )


@pytest.mark.filterwarnings("ignore:a .* file holds pixels and georeference")
@pytest.mark.parametrize("profile", ["flac-raster", "raw"])
def test_files_of_the_old_forms_open_too(profile, tmp_path):
    pixels = scene("int16", count=1, height=300, width=333) // 16
    source = make_tif(tmp_path / "a.tif", pixels, **PLACED)
    convert_to_legacy(source, tmp_path / "a.flac", profile=profile, tile_size=128)
    with (
        rasterio.open(source) as a,
        flac_xarray.rasterio.open(tmp_path / "a.flac") as b,
    ):
        assert_same_bits(a, b)
        assert (a.crs, a.transform) == (b.crs, b.transform)


def test_masks_that_differ_by_band(tmp_path):
    shape = (2, 40, 50)
    masks = np.random.default_rng(0).choice([0, 255], shape).astype("uint8")
    pixels = ArrayInfo("band_data", "int16", ("band", "y", "x"), shape, (1, 32, 32))
    mask = ArrayInfo(
        "mask", "uint8", ("band", "y", "x"), shape, (1, 32, 32), role="mask"
    )
    path = tmp_path / "a.flac"
    with FlacRasterWriter.create(path, Header((pixels, mask))) as writer:
        writer.write(scene("int16", height=40, width=50))
        writer.write(masks, position=1)
    with flac_xarray.rasterio.open(path) as found:
        np.testing.assert_array_equal(found.read_masks(), masks)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A placed GeoTIFF of 3 bands with overviews, and its FLAC raster."""
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(3)
    ground = np.add.outer(np.arange(700) * 3, np.arange(900)) + rng.integers(
        0, 40, (3, 700, 900)
    )
    pixels = ground.clip(0, 4000).astype("uint16")
    pixels[:, 100:180, 300:420] = 0
    source = make_tif(folder / "a.tif", pixels, **PLACED, nodata=0, tiled=True,
                      blockxsize=256, blockysize=256)  # fmt: skip
    with rasterio.open(source, "r+") as out:
        out.build_overviews([2, 4])
    return source, as_flac(source, folder, tile_size=256)


def test_a_window_touches_exactly_its_tiles_in_one_plan(pair, monkeypatch):
    plans = []
    real = FlacRaster.fetch_tiles

    def fetch(self, position, numbers):
        plans.append((position, sorted(numbers)))
        return real(self, position, numbers)

    monkeypatch.setattr(FlacRaster, "fetch_tiles", fetch)
    window = Window(col_off=200, row_off=300, width=400, height=100)
    with FlacRaster.open(pair[1]) as raster:
        counts = raster.array().grid.counts
    with rasterio.open(vsi_path(pair[1])) as found:
        assert plans == []  # opening reads no tile
        found.read(2, window=window)
    numbers = [(1 * counts[1] + 1) * counts[2] + col for col in (0, 1, 2)]
    assert plans == [(0, numbers)]


def test_a_wide_window_is_one_plan_too(tmp_path, monkeypatch):
    # 18 MB, more than GDAL's own limit for reading several tiles at once.
    pixels = np.zeros((1, 3000, 3000), "int16")
    pixels[0] = np.add.outer(np.arange(3000), np.arange(3000))
    write_array(tmp_path / "a.flac", pixels, effort=0)
    plans = []
    real = FlacRaster.fetch_tiles

    def fetch(self, position, numbers):
        plans.append(len(numbers))
        return real(self, position, numbers)

    monkeypatch.setattr(FlacRaster, "fetch_tiles", fetch)
    with flac_xarray.rasterio.open(tmp_path / "a.flac") as found:
        np.testing.assert_array_equal(found.read(), pixels)
    assert plans == [36]


def test_tools_give_the_same_as_on_the_source(pair, tmp_path):
    source, path = str(pair[0]), vsi_path(pair[1])
    with rasterio.open(source) as a, rasterio.open(path) as b:
        places = [a.xy(row, col) for row, col in ((0, 0), (350, 450), (120, 310))]
        for one, two in zip(a.sample(places), b.sample(places), strict=True):
            np.testing.assert_array_equal(one, two)
        with WarpedVRT(a, crs="EPSG:4326") as c, WarpedVRT(b, crs="EPSG:4326") as d:
            np.testing.assert_array_equal(c.read(), d.read())
        left, bottom, right, top = a.bounds
        ring = [(left, top), (right, top), (left, bottom), (left, top)]
        shape = {"type": "Polygon", "coordinates": [ring]}
        one, two = (rasterio.mask.mask(d, [shape], crop=True)[0] for d in (a, b))
        np.testing.assert_array_equal(one, two)
        one, two = (
            rasterio.merge.merge([d], res=33, bounds=a.bounds)[0] for d in (a, b)
        )
        np.testing.assert_array_equal(one, two)
    for name, there in (("a", source), ("b", path)):
        rasterio.shutil.copy(there, tmp_path / f"{name}.tif", driver="COG")
        rasterio.shutil.copy(there, tmp_path / f"{name}.vrt", driver="VRT")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    for kind in ("tif", "vrt"):
        with (
            rasterio.open(tmp_path / f"a.{kind}") as a,
            rasterio.open(tmp_path / f"b.{kind}") as b,
        ):
            np.testing.assert_array_equal(a.read(), b.read())


def test_rioxarray_without_a_lock(pair):
    one = rioxarray.open_rasterio(pair[0])
    two = rioxarray.open_rasterio(
        vsi_path(pair[1]), chunks={"x": 256, "y": 256}, lock=False
    )
    np.testing.assert_array_equal(one, two.compute(scheduler="threads"))
    assert one.attrs == two.attrs
    assert one.rio.transform() == two.rio.transform()


def test_rio_tiler(pair):
    rio_tiler = pytest.importorskip("rio_tiler.io")
    with (
        warnings.catch_warnings(),
        rio_tiler.Reader(str(pair[0])) as a,
        rio_tiler.Reader(vsi_path(pair[1])) as b,
    ):
        warnings.simplefilter("ignore")
        bounds = a.get_geographic_bounds("EPSG:4326")
        lon, lat = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        tile = next(iter(a.tms.tiles(lon, lat, lon + 1e-4, lat + 1e-4, [a.maxzoom])))
        one, two = (
            [
                r.tile(tile.x, tile.y, tile.z).array,
                r.preview(max_size=100).array,
                r.part(bounds, max_size=200).array,
                r.point(lon, lat).array,
            ]
            for r in (a, b)
        )
        for x, y in zip(one, two, strict=True):
            np.testing.assert_array_equal(x.data, y.data)
            np.testing.assert_array_equal(x.mask, y.mask)
        assert a.statistics() == b.statistics()
        assert a.info().model_dump() == b.info().model_dump()


def test_the_layout_is_that_of_a_cog(pair):
    cogeo = pytest.importorskip("rio_cogeo.cogeo")
    valid, problems, warned = cogeo.cog_validate(vsi_path(pair[1]), strict=True)
    assert (valid, problems, warned) == (True, [], [])


def test_threads_with_handles_of_their_own(pair):
    with rasterio.open(pair[0]) as a:
        expected = a.read()
    rng = np.random.default_rng(2)
    windows = [
        Window(int(rng.integers(600)), int(rng.integers(500)), 200, 150)
        for _ in range(48)
    ]

    def read(chosen):
        with rasterio.open(vsi_path(pair[1])) as b:
            return [b.read(window=w) for w in chosen]

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(read, windows[k::8]) for k in range(8)]
        for k, job in enumerate(jobs):
            for w, found in zip(windows[k::8], job.result(), strict=True):
                rows, cols = w.toslices()
                np.testing.assert_array_equal(found, expected[:, rows, cols])


def damaged(path, tile) -> bytes:
    data = bytearray(path.read_bytes())
    with FlacRaster.open(path) as raster:
        (entry,) = raster.index.lookup(0, [raster.array().grid.number(tile)])
    data[entry.offset + entry.nbytes // 2] ^= 1
    return bytes(data)


def causes(error) -> str:
    told = []
    while error is not None:
        told.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(told)


def test_damage_is_an_error_that_says_where_and_gives_no_pixels(pair, tmp_path):
    bad = tmp_path / "bad.flac"
    bad.write_bytes(damaged(pair[1], (1, 1, 2)))
    with rasterio.open(vsi_path(bad)) as found, rasterio.open(pair[0]) as a:
        for window in (None, Window(600, 300, 10, 10), Window(0, 0, 900, 700)):
            with pytest.raises(RasterioIOError) as caught:
                found.read(2, window=window)
            assert "tile (1, 1, 2) of array 'band_data'" in causes(caught.value)
        np.testing.assert_array_equal(found.read(1), a.read(1))
        rest = Window(0, 0, 512, 700)
        np.testing.assert_array_equal(
            found.read(2, window=rest), a.read(2, window=rest)
        )


def test_what_cannot_be_opened_says_why(tmp_path):
    (tmp_path / "text.flac").write_bytes(b"no raster at all, " * 20)
    for name, why in (
        ("none.flac", "there is no such file"),
        ("text.flac", "is not a FLAC raster: it begins with b'no raster"),
    ):
        with pytest.raises(RasterioIOError, match=why):
            rasterio.open(vsi_path(tmp_path / name))
    cube = np.zeros((2, 3, 4, 5), "uint8")
    write_array(tmp_path / "cube.flac", cube, dims=("time", "band", "y", "x"))
    with pytest.raises(RasterioIOError, match="does not fit a GeoTIFF"):
        rasterio.open(vsi_path(tmp_path / "cube.flac"))
    with pytest.raises(RasterioIOError):
        rasterio.open(
            vsi_path(tmp_path / "new.flac"), "w", driver="GTiff",
            width=1, height=1, count=1, dtype="uint8",
        )  # fmt: skip


def test_over_http_with_options_by_prefix(pair):
    with RangeServer(pair[1].parent) as server, rasterio.open(pair[0]) as a:
        url = server.url_of(pair[1].name)
        with rasterio.open(vsi_path(url)) as b:
            opened = server.requests.total()
            window = Window(100, 100, 500, 500)
            np.testing.assert_array_equal(
                a.read(1, window=window), b.read(1, window=window)
            )
        assert opened <= 2
        assert server.requests.total() <= opened + 4
        with pytest.raises(RasterioIOError, match="404"):
            rasterio.open(vsi_path(server.url_of("none.flac")))


def test_options_are_for_whole_parts_of_a_url():
    register_gdal(
        {"https://host": {"a": 1}, "https://host/deep/": {"b": 2}, "s3://bucket": {}}
    )
    assert options_for("https://host/x.flac") == {"a": 1}
    assert options_for("https://host/deep/x.flac") == {"b": 2}
    assert options_for("https://host/deeper/x.flac") == {"a": 1}
    assert options_for("https://host.evil/x.flac") == {}
    assert options_for("https://host:81/x.flac") == {}
    assert options_for("https://host@evil/x.flac") == {}


FORKED = """
import os, sys, threading
import rasterio, flac_xarray
from flac_xarray.virtual_file import VirtualFile
from flac_xarray.vsi import vsi_path
flac_xarray.register_gdal()
path = sys.argv[1]
before = rasterio.open(vsi_path(path))
expected = before.read().sum()
file = VirtualFile(flac_xarray.FlacRaster.open(path))
stop, reading = threading.Event(), threading.Event()
# What a thread of GDAL's does in this package; GDAL's own locks survive no fork.
def busy():
    while not stop.is_set():
        with flac_xarray.FlacRaster.open(path) as raster:
            raster.read()
        file.read(0, file.size)
        file.read(5000, 6000)
        reading.set()
thread = threading.Thread(target=busy)
thread.start()
reading.wait()
codes = []
for _ in range(5):
    pid = os.fork()
    if not pid:
        ok = before.read().sum() == expected
        with rasterio.open(vsi_path(path)) as again:
            ok &= again.read().sum() == expected
        os._exit(0 if ok else 1)
    codes.append(os.waitpid(pid, 0)[1])
stop.set()
thread.join()
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_reading_in_forked_processes(pair):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(pair[1])],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("[0, 0, 0, 0, 0]", 0), done.stderr


def test_the_opener_stands_in_where_gdal_is_hidden(pair, tmp_path, monkeypatch):
    def hidden(*_):
        message = "rasterio's GDAL does not show what a file system needs"
        raise OSError(message)

    monkeypatch.setattr(flac_xarray.rasterio, "register_gdal", hidden)
    assert flac_xarray.rasterio.way() == "opener"
    with rasterio.open(pair[0]) as a, flac_xarray.rasterio.open(pair[1]) as b:
        assert b.driver == "GTiff"
        assert not b.name.startswith("/vsiflac/")
        assert_same_dataset(a, b)
    with pytest.raises(RasterioIOError, match="there is no such file"):
        flac_xarray.rasterio.open(tmp_path / "none.flac")
    (tmp_path / "bad.flac").write_bytes(damaged(pair[1], (1, 1, 2)))
    with (
        flac_xarray.rasterio.open(tmp_path / "bad.flac") as bad,
        pytest.raises(RasterioIOError),
    ):
        bad.read(2)


def test_rio_flac(tmp_path):
    source = make_tif(tmp_path / "a.tif", scene(count=3), **PLACED, _mask=VOID)
    flac, back = str(tmp_path / "a.flac"), str(tmp_path / "back.tif")

    def run(*words):
        done = CliRunner().invoke(rio_flac, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    run("create", source, flac, "--tile-size", "16")
    assert "30" in run("info", flac)
    run("validate", flac)
    run("copy", flac, back)
    run("extract", flac, "--window", "3,2,10,8", "-o", tmp_path / "part.tif")
    with rasterio.open(source) as a, rasterio.open(back) as b:
        assert_same_bits(a, b)
        with rasterio.open(tmp_path / "part.tif") as part:
            at = Window(3, 2, 10, 8)
            np.testing.assert_array_equal(part.read(), a.read(window=at))
    listed = subprocess.run(
        [Path(sys.executable).with_name("rio"), "flac", "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for command in ("create", "info", "validate", "extract", "copy"):
        assert f"\n  {command} " in listed


def test_mask_flags_without_a_mask(tmp_path):
    write_array(tmp_path / "a.flac", scene())
    with flac_xarray.rasterio.open(tmp_path / "a.flac") as found:
        assert found.mask_flag_enums == ([MaskFlags.all_valid],) * 2


def test_dask_workers_register_with_the_preload(pair):
    distributed = pytest.importorskip("distributed")
    path = vsi_path(pair[1])

    def read():
        with rasterio.open(path) as found:
            return found.read(1).sum()

    with (
        distributed.LocalCluster(
            1,
            threads_per_worker=2,
            processes=True,
            dashboard_address=":0",
            preload=["flac_xarray.vsi_preload"],
        ) as cluster,
        distributed.Client(cluster) as client,
        rasterio.open(pair[0]) as a,
    ):
        assert client.submit(read).result(timeout=60) == a.read(1).sum()
