"""Object stores through s3fs, gcsfs and adlfs, against emulators of their servers."""

from __future__ import annotations

import os
import pickle
import traceback

import numpy as np
import pytest
import xarray as xr

from flac_xarray import FlacRaster, Window, write, write_array
from flac_xarray.errors import SourceChangedError, SourceError
from flac_xarray.ranges import ByteRange
from flac_xarray.sources import (
    AzureSource,
    GcsSource,
    S3Source,
    SourceNotFoundError,
    open_source,
)
from tests.stores import STORES

pytestmark = [
    # botocore still calls datetime.utcnow, and moto's answers are read by it.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore"),
    # gcsfs hands a part to aiohttp as bytes.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]
SOURCES = {"s3": S3Source, "gs": GcsSource, "az": AzureSource}


@pytest.fixture(scope="module", params=STORES)
def store(request, tmp_path_factory, payload):
    """A store with ``a.flac`` and ``empty.flac``."""
    with STORES[request.param](tmp_path_factory.mktemp("store")) as running:
        running.put("a.flac", payload)
        running.put("empty.flac", b"")
        yield running


@pytest.fixture(autouse=True)
def no_other_credentials(monkeypatch, tmp_path):
    known = ("AWS_", "AZURE_", "GOOGLE_", "GCSFS_", "FSSPEC_")
    for name in [name for name in os.environ if name.startswith(known)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_prefix_tells_size_and_version(store, payload):
    source = open_source(store.url("a.flac"), store.options)
    assert type(source) is SOURCES[store.protocol]
    prefix = source.read_prefix(1000)
    assert prefix.data == payload[:1000]
    assert prefix.size == len(payload)
    assert prefix.token
    assert source.counters.requests == 1


def test_ranges(store, payload):
    source = open_source(store.url("a.flac"), store.options)
    ranges = [ByteRange(k, k + 50) for k in range(0, 20_000, 1000)]
    found = dict(source.read_ranges(ranges))
    assert all(found[k] == payload[r.start : r.stop] for k, r in enumerate(ranges))
    assert source.counters.requests == 20
    assert source.counters.bytes == 20 * 50


def test_short_file_and_empty_file(store, payload):
    whole = open_source(store.url("a.flac"), store.options).read_prefix(10**6)
    assert whole.data == payload
    empty = open_source(store.url("empty.flac"), store.options).read_prefix(100)
    assert (bytes(empty.data), empty.size) == (b"", 0)


@pytest.mark.parametrize("bucket", ["tiles", "nobucket"])
def test_missing_object_and_bucket(store, bucket):
    url = store.url("no.flac", bucket)
    source = open_source(url, store.options)
    with pytest.raises(SourceNotFoundError, match=url):
        source.read_prefix(10)
    assert source.counters.requests == 1


def test_beyond_the_end(store):
    source = open_source(store.url("a.flac"), store.options)
    with pytest.raises(SourceError) as caught:
        source.read_range(400_000, 400_010)
    assert caught.value.status == 416
    with pytest.raises(SourceError, match="300000 bytes"):
        source.read_range(299_990, 300_010)


def test_replaced_object(store, payload):
    store.put("changing.flac", payload)
    source = open_source(store.url("changing.flac"), store.options)
    source.read_prefix(10)
    store.put("changing.flac", payload[::-1])
    copy = pickle.loads(pickle.dumps(source))
    for reader in (source, copy):
        with pytest.raises(SourceChangedError, match=store.version):
            reader.read_range(0, 10)


def test_replaced_by_a_shorter_object(store, payload):
    store.put("shrinking.flac", payload)
    source = open_source(store.url("shrinking.flac"), store.options)
    source.read_prefix(10)
    store.put("shrinking.flac", payload[:100])
    with pytest.raises(SourceError):
        source.read_range(1000, 1010)
    with pytest.raises(SourceChangedError, match="replaced"):
        source.read_range(0, 10)


def test_pickled_source_reads(store, payload):
    source = open_source(store.url("a.flac"), store.options)
    source.read_prefix(10)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read_range(10, 20) == payload[10:20]


def test_credentials_stay_hidden(store):
    source = open_source(store.url("no.flac"), store.options)
    with pytest.raises(SourceError) as caught:
        source.read_prefix(10)
    error = caught.value
    texts = [repr(source), str(source), repr(error), repr(vars(error))]
    texts += traceback.format_exception(error)
    for secret in store.secrets:
        assert not any(secret in text for text in texts)


@pytest.fixture(scope="module")
def noise():
    """Pixels that no codec makes smaller, so that tiles lie beyond the prefetch."""
    return np.random.default_rng(5).integers(-(2**15), 2**15, (1, 512, 512), "int16")


def test_costs_of_a_raster(store, noise, tmp_path):
    write_array(tmp_path / "a.flac", noise, tile_size=128)
    store.put("raster.flac", (tmp_path / "a.flac").read_bytes())
    with FlacRaster.open(
        store.url("raster.flac"), storage_options=store.options, cache_nbytes=0
    ) as raster:
        assert raster.stats.requests == 1
        opened = raster.stats.nbytes
        tile = raster.plan((slice(0, 1), slice(384, 512), slice(384, 512)))
        found = raster.read(Window(384, 384, 128, 128))
        assert np.array_equal(found, noise[:, 384:, 384:])
        assert raster.stats.requests == 2
        assert raster.stats.nbytes - opened == tile.tile_nbytes


def test_dataset(store, noise):
    url = store.url("written.flac")
    array = xr.DataArray(noise[0], dims=("y", "x"), name="band_data")
    write(array.to_dataset(), url, tile_size=128, storage_options=store.options)
    with xr.open_dataset(
        url, engine="flacraster", storage_options=store.options
    ) as found:
        assert found.band_data.chunks is not None
        again = pickle.loads(pickle.dumps(found.band_data))
        graph = {**again.__dask_graph__()}
        texts = [f"{found!r} {found._repr_html_()} {found.encoding}", f"{again!r}"]
        texts += [f"{again.data!r} {graph!r}"]
        for secret in store.secrets:
            assert not any(secret in text for text in texts)
        assert np.array_equal(found.band_data.squeeze(), noise[0])
    with pytest.raises(FileExistsError):
        write(array.to_dataset(), url, storage_options=store.options)


@pytest.mark.parametrize("parts", ["one-part", "many-parts"])
def test_dask_writing(store, noise, parts, monkeypatch):
    monkeypatch.setattr("flac_xarray.dask_writer.GROUP_NBYTES", 5 << 20)
    monkeypatch.setattr("flac_xarray.object_upload.MAX_COMPOSED", 2)
    url = store.url(f"{parts}.flac")
    values = noise[0] if parts == "one-part" else np.tile(noise[0], (8, 4))
    array = xr.DataArray(values, dims=("y", "x"), name="band_data")
    chunked = array.chunk(y=512, x=512).to_dataset()
    write(chunked, url, tile_size=256, storage_options=store.options)
    with xr.open_dataset(
        url, engine="flacraster", storage_options=store.options
    ) as found:
        assert np.array_equal(found.band_data.squeeze(), values)
    names = store.filesystem().find("tiles")
    assert not [name for name in names if ".parts" in name]


def test_failed_writing_leaves_nothing(store, noise):
    import dask.array

    def fail(_):
        msg = "on purpose"
        raise RuntimeError(msg)

    values = dask.array.from_array(noise[0], chunks=256).map_blocks(
        fail, dtype="int16", meta=noise[0][:0, :0]
    )
    chunked = xr.DataArray(values, dims=("y", "x"), name="band_data").to_dataset()
    url = store.url("failed.flac")
    with pytest.raises(RuntimeError, match="on purpose"):
        write(chunked, url, tile_size=256, storage_options=store.options)
    names = store.filesystem().find("tiles")
    assert not [name for name in names if "failed" in name]


def test_writing_to_no_bucket(store, noise):
    url = store.url("a.flac", "nobucket")
    array = xr.DataArray(noise[0], dims=("y", "x"), name="band_data")
    for data in (array, array.chunk(y=256, x=256)):
        with pytest.raises(SourceError, match=url) as caught:
            write(data.to_dataset(), url, storage_options=store.options)
        text = "".join(traceback.format_exception(caught.value))
        assert not any(secret in text for secret in store.secrets)


def test_through_rasterio(store, noise, tmp_path):
    import rasterio

    import flac_xarray.rasterio

    transform = (10.0, 0.0, 5e5, 0.0, -10.0, 4e6)
    where = {"crs": "EPSG:32618", "transform": transform}
    write_array(tmp_path / "a.flac", noise, tile_size=128, **where)
    store.put("gdal.flac", (tmp_path / "a.flac").read_bytes())
    url = store.url("gdal.flac")
    window = rasterio.windows.Window(100, 50, 200, 300)
    expected = noise[0, 50:350, 100:300]
    with flac_xarray.rasterio.open(url, **store.options) as opened:
        assert opened.crs == "EPSG:32618"
        assert np.array_equal(opened.read(1, window=window), expected)
    flac_xarray.register_gdal({store.url("").rstrip("/"): store.options})
    with rasterio.open(f"/vsiflac/{url}") as opened:
        assert np.array_equal(opened.read(1, window=window), expected)
    none = f"/vsiflac/{store.url('none.flac')}"
    with pytest.raises(rasterio.RasterioIOError) as caught:
        rasterio.open(none)
    text = "".join(traceback.format_exception(caught.value))
    assert not any(secret in text for secret in store.secrets)
