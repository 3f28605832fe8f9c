"""No credential is in any error, log or repr, whatever goes wrong on the way."""

from __future__ import annotations

import base64
import io
import logging
import pickle
import threading
import traceback
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
import xarray as xr

from flac_xarray import write
from flac_xarray.array_writer import write_array
from flac_xarray.errors import FlacRasterError
from flac_xarray.naming import Secrets
from flac_xarray.reader import FlacRaster
from flac_xarray.sources import FetchLimits, open_source
from flac_xarray.validate import validate_raster
from tests.servers import FaultServer, Reset, Rewrite, ShortBody, Status
from tests.small_raster import pixels

QUERY, PASSWORD, HEADER = "s1gnatureXYZ", "pa55wordXYZ", "t0kenXYZ"
SECRETS = (
    QUERY,
    PASSWORD,
    HEADER,
    base64.b64encode(f"me:{PASSWORD}".encode()).decode(),
)
LIMITS = FetchLimits(timeout=1.0, backoff=0.001, retries=1)
OPTIONS = {"headers": {"X-Api-Token": HEADER}}


class After:
    """A fault from the second request on: the header is read, the tiles are not."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, handler, number):
        return number > 0 and self.fault(handler, 0)


FAULTS = {
    "none": None,
    "forbidden": Status(403),
    "gone": Status(404),
    "busy": Status(503),
    "redirected": Status(302, fields={"Location": f"/gone.flac?sig={QUERY}"}),
    "reset": Reset(),
    "cut": ShortBody(40),
    "another-range": Rewrite({"Content-Range": "bytes 0-9/99"}),
    "another-file": Rewrite({"ETag": '"x"'}, after=1),
}


@pytest.fixture
def server(tmp_path):
    write_array(tmp_path / "a.flac", pixels(), tile_size=32, crs="EPSG:4326")
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[-30] ^= 1
    (tmp_path / "damaged.flac").write_bytes(data)
    (tmp_path / "other.flac").write_bytes(b"no raster" * 99)
    (tmp_path / "padding").write_bytes(bytes(1 << 17))
    with FaultServer(tmp_path) as server:
        yield server


def url_of(server, name):
    url = server.url_of(name).replace("://", f"://me:{PASSWORD}@")
    return f"{url}?sig={QUERY}&n=1#{QUERY}"


def attempt(act, texts):
    """Run something; what it gives, warns of and raises is kept as text."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            made = act()
        except (FlacRasterError, ValueError, OSError) as error:
            texts += [str(error), repr(error), repr(vars(error))]
            texts += ["".join(traceback.format_exception(error))]
            again = pickle.loads(pickle.dumps(error))
            texts += [str(again), repr(vars(again))]
        else:
            texts += [str(made), repr(made)]
    texts += [str(warning.message) for warning in told]


@pytest.mark.parametrize("name", ["a.flac", "damaged.flac", "other.flac", "none.flac"])
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_tells_a_secret(server, caplog, fault, name):
    caplog.set_level(logging.DEBUG)
    server.faults = [After(FAULTS[fault])] if FAULTS[fault] else []
    url = url_of(server, name)
    texts: list[str] = []

    def read():
        source = open_source(url, OPTIONS, limits=LIMITS)
        texts.append(f"{source!r} {source} {source.limits!r} {source.counters!r}")
        with FlacRaster.open(source, prefetch=4096, cache_nbytes=0) as raster:
            texts.append(f"{raster!r} {raster.name} {raster.stats!r} {raster.index!r}")
            return raster.read()

    def dataset():
        with xr.open_dataset(
            url, engine="flacraster", storage_options=OPTIONS
        ) as opened:
            array = opened.band_data
            texts.append(f"{opened!r} {opened._repr_html_()} {array.encoding!r}")
            texts.append(f"{array.data!r} {list(array.__dask_graph__())!r}")
            texts.append(f"{opened.attrs!r} {opened.encoding!r}")
            if fault != "none":
                return None  # its limits are the default ones, which wait for long
            return array.load()

    attempt(read, texts)
    if fault in ("none", "gone", "forbidden"):
        attempt(dataset, texts)
        attempt(lambda: validate_raster(url, full=True, storage_options=OPTIONS), texts)
    texts.append(caplog.text)
    assert len(texts) > 3
    for secret in SECRETS:
        for text in texts:
            at = text.find(secret)
            assert at < 0, text[max(at - 200, 0) : at + 50]


def test_the_server_was_given_them(server):
    # Or nothing would be proved by their absence elsewhere.
    with FlacRaster.open(url_of(server, "a.flac"), storage_options=OPTIONS) as raster:
        assert (raster.read() == pixels()).all()
    path, fields = server.seen[0]
    assert path == "/a.flac"
    assert fields["X-Api-Token"] == HEADER
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert fields["Authorization"] == f"Basic {basic}"


def test_local_names_are_shown(tmp_path):
    # What is no secret is told: an error without its file is of no use.
    with pytest.raises(FlacRasterError, match=r"none\.flac"):
        FlacRaster.open(tmp_path / "none.flac")
    with pytest.raises(FlacRasterError, match="BytesIO"):
        FlacRaster.open(io.BytesIO(b"no raster" * 99))


class Echo(BaseHTTPRequestHandler):
    """Refuses, and tells what it was sent, as stores do when a signature is wrong."""

    protocol_version = "HTTP/1.1"

    def refuse(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.server.seen.append(f"{self.path}\n{self.headers}")
        body = f"<Error>refused: {self.path}\n{self.headers}</Error>".encode()
        self.send_response(403, f"you sent {self.path}")
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = refuse  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def echo():
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server.shutdown()
        thread.join()


ACCOUNT_KEY = base64.b64encode(b"an account key of 32 bytes or so").decode()
SIGNATURE = "c2lnbmF0dXJl%2Bof%2Fsome%2Blength%3D"
ACCOUNT = "DefaultEndpointsProtocol=http;AccountName=me;BlobEndpoint={url}/me;"


def gcs_token(_):
    from google.oauth2.credentials import Credentials

    return {"token": Credentials("ya29.t0kenXYZ"), "project": "p"}


STORES = {
    "gs-token": ("gcsfs", "gs", gcs_token, ("ya29.t0kenXYZ",)),
    "az-key": (
        "adlfs",
        "az",
        lambda url: {
            "connection_string": f"{ACCOUNT}AccountKey={ACCOUNT_KEY}".format(url=url)
        },
        (ACCOUNT_KEY,),
    ),
    "az-signature": (
        "adlfs",
        "abfs",
        lambda url: {
            "connection_string": (
                f"{ACCOUNT}SharedAccessSignature=sv=2022-11-02&sp=r&sig={SIGNATURE}"
            ).format(url=url)
        },
        (SIGNATURE, unquote(SIGNATURE)),
    ),
}


@pytest.mark.parametrize("store", STORES)
def test_a_store_that_tells_what_it_was_sent(store, echo, caplog):
    package, protocol, options_of, secrets = STORES[store]
    pytest.importorskip(package)
    caplog.set_level(logging.INFO)  # what azure tells of signatures in DEBUG is its own
    options = options_of(echo.url)
    if protocol == "gs":
        options["endpoint_url"] = echo.url
    url = f"{protocol}://tiles/a.flac"
    texts: list[str] = []
    attempt(lambda: open_source(url, options), texts)
    attempt(lambda: open_source(url, options).read_prefix(100), texts)
    attempt(lambda: FlacRaster.open(url, storage_options=options), texts)
    attempt(lambda: validate_raster(url, storage_options=options), texts)
    attempt(lambda: write_array(url, pixels(), storage_options=options), texts)
    dataset = xr.DataArray(pixels(), dims=("band", "y", "x"), name="a").to_dataset()
    for overwrite in (False, True):
        how = {"storage_options": options, "overwrite": overwrite}
        attempt(lambda how=how: write(dataset, url, **how), texts)
        attempt(lambda how=how: write(dataset.chunk(), url, **how), texts)
    assert sum("SourceError" in text for text in texts) >= 7
    texts.append(caplog.text)
    for secret in secrets:
        for text in texts:
            at = text.find(secret)
            assert at < 0, text[max(at - 200, 0) : at + 50]
    # Or nothing would be proved: a key signs, the others are sent.
    sent = "".join(echo.seen)
    shown = "SharedKey me:" if store == "az-key" else secrets[-1]
    assert shown in unquote(sent)


def test_ways_to_find_a_token_are_no_secrets():
    secrets = Secrets("gs://tiles/a.flac", {"token": "anon"})
    assert secrets.clean("canonical") == "canonical"


def test_parts_of_a_connection_string():
    text = (
        f"{ACCOUNT}AccountKey={ACCOUNT_KEY};SharedAccessSignature=sv=1&sig={SIGNATURE}"
    )
    secrets = Secrets("az://tiles/a.flac", {"connection_string": text})
    for part in (text, ACCOUNT_KEY, SIGNATURE, unquote(SIGNATURE)):
        assert secrets.clean(f"<{part}>") == "<***>"
    assert secrets.clean("http of me") == "http of me"
