"""S3 through s3fs, against moto's server, with credentials in storage_options."""

import importlib.util
import os
import pickle
import sys
import traceback

import pytest

from flac_xarray.errors import SourceChangedError, SourceError
from flac_xarray.ranges import ByteRange
from flac_xarray.sources import S3Source, SourceNotFoundError, open_source
from tests.servers import free_port, running

MISSING = [
    name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None
]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    # botocore still calls datetime.utcnow, and moto's answers are read by it.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore"),
]
KEY, SECRET = "AKIATESTKEY0", "s3cr3tEXAMPLEvalue"


@pytest.fixture(scope="module")
def bucket(payload):
    """Options for a bucket ``tiles`` with ``a.flac`` and ``empty.flac``."""
    import s3fs

    port = free_port()
    options = {
        "key": KEY,
        "secret": SECRET,
        "endpoint_url": f"http://127.0.0.1:{port}",
        "client_kwargs": {"region_name": "us-east-1"},
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port):
        fs = s3fs.S3FileSystem(**options)
        fs.call_s3("create_bucket", Bucket="tiles")
        fs.pipe_file("tiles/a.flac", payload)
        fs.pipe_file("tiles/empty.flac", b"")
        yield options


@pytest.fixture(autouse=True)
def no_other_credentials(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_prefix_tells_size_and_version(bucket, payload):
    source = open_source("s3://tiles/a.flac", bucket)
    assert isinstance(source, S3Source)
    prefix = source.read_prefix(1000)
    assert prefix.data == payload[:1000]
    assert prefix.size == len(payload)
    assert prefix.token.startswith('"')
    assert source.counters.requests == 1


def test_ranges(bucket, payload):
    source = open_source("s3://tiles/a.flac", bucket)
    ranges = [ByteRange(k, k + 50) for k in range(0, 20_000, 1000)]
    found = dict(source.read_ranges(ranges))
    assert all(found[k] == payload[r.start : r.stop] for k, r in enumerate(ranges))
    assert source.counters.requests == 20
    assert source.counters.bytes == 20 * 50


def test_short_file_and_empty_file(bucket, payload):
    whole = open_source("s3://tiles/a.flac", bucket).read_prefix(10**6)
    assert whole.data == payload
    empty = open_source("s3://tiles/empty.flac", bucket).read_prefix(100)
    assert (bytes(empty.data), empty.size) == (b"", 0)


def test_missing_object_and_bucket(bucket):
    for url in ("s3://tiles/no.flac", "s3://nobucket/a.flac"):
        source = open_source(url, bucket)
        with pytest.raises(SourceNotFoundError, match=url):
            source.read_prefix(10)
        assert source.counters.requests == 1


def test_beyond_the_end(bucket):
    source = open_source("s3://tiles/a.flac", bucket)
    with pytest.raises(SourceError) as caught:
        source.read_range(400_000, 400_010)
    assert caught.value.status == 416
    with pytest.raises(SourceError, match="300000 bytes"):
        source.read_range(299_990, 300_010)


def test_replaced_object(bucket, payload):
    import s3fs

    fs = s3fs.S3FileSystem(**bucket)
    fs.pipe_file("tiles/changing.flac", payload)
    source = open_source("s3://tiles/changing.flac", bucket)
    source.read_prefix(10)
    fs.pipe_file("tiles/changing.flac", payload[::-1])
    copy = pickle.loads(pickle.dumps(source))
    for reader in (source, copy):
        with pytest.raises(SourceChangedError, match="ETag"):
            reader.read_range(0, 10)


def test_pickled_source_reads(bucket, payload):
    source = open_source("s3://tiles/a.flac", bucket)
    source.read_prefix(10)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read_range(10, 20) == payload[10:20]


def test_credentials_stay_hidden(bucket):
    source = open_source("s3://tiles/no.flac", bucket)
    with pytest.raises(SourceError) as caught:
        source.read_prefix(10)
    error = caught.value
    texts = [repr(source), str(source), repr(error), repr(vars(error))]
    texts += traceback.format_exception(error)
    for secret in (KEY, SECRET):
        assert not any(secret in text for text in texts)
