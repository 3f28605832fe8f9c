"""No credential is in any error, log or repr, whatever goes wrong on the way."""

from __future__ import annotations

import base64
import io
import logging
import pickle
import traceback
import warnings

import pytest
import xarray as xr

from flac_xarray.array_writer import write_array
from flac_xarray.errors import FlacRasterError
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
            texts.append(repr(opened.attrs))
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
