"""Servers that misbehave on purpose, and how to start real ones.

`FaultServer` is `flac_xarray.range_server` with faults: functions that see a request
and its number (per path, from 0) and may change or replace the answer. Real servers
are started on free ports and ended with their context, also on failure.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from flac_xarray.range_server import RangeHandler, RangeServer

START_SECONDS = 120.0
"""A machine that is busy with other things starts a server in ten times its time."""
STALL_SECONDS = 10.0


class FaultHandler(RangeHandler):
    server: FaultServer

    def setup(self) -> None:
        super().setup()
        self.server.number("connection")

    def answer(self, *, send_body: bool) -> None:
        self.rewrite: dict[str, str] = {}
        self.cut_at: int | None = None
        self.stall_at: int | None = None
        path = urlsplit(self.path).path
        self.server.seen.append((path, dict(self.headers)))
        number = self.server.number(path)
        if self.server.latency:
            time.sleep(self.server.latency)
        if not any(fault(self, number) for fault in self.server.faults):
            super().answer(send_body=send_body)

    def send_head(self, status: HTTPStatus, fields: dict[str, str]) -> None:
        super().send_head(status, {**fields, **self.rewrite})

    def send_body(self, read: Callable[[int], bytes], nbytes: int) -> None:
        if self.cut_at is not None:
            super().send_body(read, min(nbytes, self.cut_at))
            self.close_connection = True
            return
        if self.stall_at is not None:
            super().send_body(read, min(nbytes, self.stall_at))
            self.wfile.flush()
            self.server.stopping.wait(STALL_SECONDS)
            self.close_connection = True
            return
        if self.server.bandwidth:
            time.sleep(nbytes / self.server.bandwidth)
        super().send_body(read, nbytes)


Fault = Callable[[FaultHandler, int], bool]


class FaultServer(RangeServer):
    """A range server with latency (s), bandwidth (bytes/s, each request) and faults."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, FaultHandler)
        self.latency = 0.0
        self.bandwidth = 0.0
        self.faults: Sequence[Fault] = ()
        self.seen: list[tuple[str, Mapping[str, str]]] = []
        self.stopping = threading.Event()
        self._numbers: Counter[str] = Counter()
        self._numbering = threading.Lock()

    def number(self, path: str) -> int:
        with self._numbering:
            self._numbers[path] += 1
            return self._numbers[path] - 1

    @property
    def connections(self) -> int:
        """How many were made so far."""
        with self._numbering:
            return self._numbers["connection"]

    def __exit__(self, *args) -> None:
        self.stopping.set()
        super().__exit__(*args)


def ignore_range(handler: FaultHandler, _: int) -> bool:
    del handler.headers["Range"]
    return False


def unknown_length(handler: FaultHandler, _: int) -> bool:
    """Send the file whole, without Content-Length: its end is the connection's."""
    path = handler.server.find(handler.path)
    handler.server.count_request(handler.path)
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    with path.open("rb") as file:
        RangeHandler.send_body(handler, file.read, path.stat().st_size)
    handler.close_connection = True
    return True


@dataclass(frozen=True)
class Undelimited:
    """Answer for the first 1000 bytes, without a length, with another number."""

    nbytes: int

    def __call__(self, handler: FaultHandler, _: int) -> bool:
        data = handler.server.find(handler.path).read_bytes()
        handler.server.count_request(handler.path)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-999/{len(data)}")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data[: self.nbytes])
        handler.close_connection = True
        return True


@dataclass(frozen=True)
class Rewrite:
    """Change header fields of the requests from number `after` on."""

    fields: Mapping[str, str]
    after: int = 0

    def __call__(self, handler: FaultHandler, number: int) -> bool:
        if number >= self.after:
            handler.rewrite = dict(self.fields)
        return False


@dataclass(frozen=True)
class Status:
    """Answer the first `times` requests (or each `every`-th) with a status."""

    status: int
    times: int = 1000
    every: int = 1
    fields: Mapping[str, str] | None = None

    def __call__(self, handler: FaultHandler, number: int) -> bool:
        if number >= self.times or number % self.every:
            return False
        handler.refuse(HTTPStatus(self.status), dict(self.fields or {}))
        return True


@dataclass(frozen=True)
class ShortBody:
    """End the body and the connection early, `times` times."""

    nbytes: int
    times: int = 1000

    def __call__(self, handler: FaultHandler, number: int) -> bool:
        if number < self.times:
            handler.cut_at = self.nbytes
        return False


@dataclass(frozen=True)
class Stall:
    """Send some of the body, then nothing more, `times` times."""

    nbytes: int
    times: int = 1000

    def __call__(self, handler: FaultHandler, number: int) -> bool:
        if number < self.times:
            handler.stall_at = self.nbytes
        return False


class Together:
    """Answer the first `n` requests when all have come: sent in turn, none ever is."""

    def __init__(self, n: int) -> None:
        self._met = threading.Barrier(n)
        self._numbers = itertools.count()

    def __call__(self, _handler: FaultHandler, _number: int) -> bool:
        if next(self._numbers) < self._met.parties:
            self._met.wait(START_SECONDS)
        return False


@dataclass(frozen=True)
class Reset:
    """Break the connection without an answer, `times` times."""

    times: int = 1000

    def __call__(self, handler: FaultHandler, number: int) -> bool:
        if number >= self.times:
            return False
        # Lingering for 0 s makes close() send RST.
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.server.count_request(handler.path)
        handler.close_connection = True
        return True


@dataclass(frozen=True)
class Redirect:
    """Send requests of `source` to another path."""

    source: str
    target: str

    def __call__(self, handler: FaultHandler, _: int) -> bool:
        if urlsplit(handler.path).path != self.source:
            return False
        handler.refuse(HTTPStatus.FOUND, {"Location": self.target})
        return True


@dataclass(frozen=True)
class Nginx:
    """A running nginx: one server with everything on, by path."""

    url: str
    tls_url: str
    certificate: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            _, errors = process.communicate()
            msg = f"the server ended at once: {errors.decode(errors='replace')}"
            raise RuntimeError(msg)
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    msg = f"the server does not listen on port {port}"
    raise RuntimeError(msg)


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """Run a server until the context ends."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


NGINX = """
daemon off;
worker_processes 1;
pid {run}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {run}/body;
  proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi;
  scgi_temp_path {run}/scgi;
  types {{ application/octet-stream flac; text/plain txt; }}
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {run}/cert.pem;
    ssl_certificate_key {run}/key.pem;
    root {root};
    location /plain/ {{ alias {root}/; }}
    location /noranges/ {{ alias {root}/; max_ranges 0; }}
    location /gzip/ {{
      alias {root}/; gzip on; gzip_min_length 1; gzip_types *; gzip_proxied any;
    }}
    location /auth/ {{
      alias {root}/; auth_basic "tests"; auth_basic_user_file {run}/users;
    }}
    location /moved/ {{ rewrite ^/moved/(.*)$ /plain/$1 redirect; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(root: Path, run: Path, user: str, password: str) -> Iterator[Nginx]:
    """Serve `root` with nginx; `run` holds its configuration and certificate."""
    port, tls_port = free_port(), free_port()
    subprocess.run(
        [
            shutil.which("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes",
            "-keyout", run / "key.pem", "-out", run / "cert.pem", "-days", "2",
            "-subj", "/CN=localhost", "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    (run / "users").write_text(f"{user}:{{PLAIN}}{password}\n")
    is_root = subprocess.run(["id", "-u"], capture_output=True, check=True)  # noqa: S607
    text = NGINX.format(
        root=root,
        run=run,
        port=port,
        tls_port=tls_port,
        user="user root;" if is_root.stdout.strip() == b"0" else "",
    )
    (run / "nginx.conf").write_text(text)
    command = [shutil.which("nginx"), "-p", str(run), "-c", str(run / "nginx.conf")]
    with running(command, port):
        yield Nginx(
            f"http://127.0.0.1:{port}",
            f"https://localhost:{tls_port}",
            run / "cert.pem",
        )
