"""The object stores that tests read from and write to: emulators on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port, running

KEY, SECRET = "AKIATESTKEY0", "s3cr3tEXAMPLEvalue"
ACCOUNT = "devstoreaccount1"
# Azurite's own, and the same for everybody.
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
    "K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True)
class Store:
    """A running store with an empty bucket, or container, ``tiles``."""

    protocol: str
    options: Mapping[str, Any]
    """For `storage_options`."""
    put: Callable[[str, bytes], None]
    """Writes an object of the bucket, without this project's code."""
    secrets: tuple[str, ...]
    """What must never be shown."""
    version: str
    """What tells versions apart."""

    def url(self, name: str, bucket: str = "tiles") -> str:
        return f"{self.protocol}://{bucket}/{name}"

    def filesystem(self) -> Any:
        """A file system that remembers nothing of earlier ones."""
        import fsspec

        kind = fsspec.get_filesystem_class(self.protocol)
        return kind(**self.options, use_listings_cache=False)


def _skip_without(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@contextlib.contextmanager
def s3_store(_: Path) -> Iterator[Store]:
    _skip_without("s3fs", "moto", "flask")
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

        def put(name: str, data: bytes) -> None:
            fs.call_s3("put_object", Bucket="tiles", Key=name, Body=data)

        yield Store("s3", options, put, (KEY, SECRET), "ETag")


@contextlib.contextmanager
def gcs_store(_: Path) -> Iterator[Store]:
    """Start an emulator, or use the one of ``FLAC_XARRAY_GCS_ENDPOINT``."""
    _skip_without("gcsfs", "gcp_storage_emulator")
    import gcsfs
    from google.oauth2.credentials import Credentials

    given = os.environ.get("FLAC_XARRAY_GCS_ENDPOINT")
    port = free_port()
    endpoint = given or f"http://127.0.0.1:{port}"
    # The emulator does not look at it.
    secret = "ya29.t0kenEXAMPLEvalue"  # noqa: S105
    options = {
        "endpoint_url": endpoint,
        "token": Credentials(secret),
        "project": "tests",
    }
    command = [
        sys.executable,
        str(Path(__file__).with_name("gcs_server.py")),
        str(port),
    ]
    server = contextlib.nullcontext() if given else running(command, port)
    with server:
        fs = gcsfs.GCSFileSystem(**options)
        if not fs.exists("tiles"):
            fs.mkdir("tiles")
        upload = f"{endpoint}/upload/storage/v1/b/tiles/o"

        def put(name: str, data: bytes) -> None:
            fs.call("POST", upload, uploadType="media", name=name, data=data)

        yield Store("gs", options, put, (secret,), "generation")


@contextlib.contextmanager
def azure_store(folder: Path) -> Iterator[Store]:
    _skip_without("adlfs")
    azurite = shutil.which("azurite-blob")
    if azurite is None:
        pytest.skip("not on PATH: azurite-blob (npm install azurite)")
    import adlfs

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    text = (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};"
        f"AccountKey={ACCOUNT_KEY};BlobEndpoint={endpoint};"
    )
    command = [
        azurite, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent",
        "--location", str(folder), "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip
    with running(command, port):
        fs = adlfs.AzureBlobFileSystem(connection_string=text)
        fs.mkdir("tiles")

        def put(name: str, data: bytes) -> None:
            fs.pipe_file(f"tiles/{name}", data)

        options = {"connection_string": text}
        yield Store("az", options, put, (ACCOUNT_KEY, text), "ETag")


STORES = {"s3": s3_store, "gs": gcs_store, "az": azure_store}
