"""A web server at the end of a slow link, in a process of its own.

Strategy: `RangeServer` that waits a round trip before each answer, and one more for a
new connection, as TCP's handshake does, and that sends all its bodies through one
link of limited bandwidth, which concurrent answers share as they do a real one.
``/counts`` tells requests and bytes since it was last asked.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import urlopen

from flac_xarray.range_server import RangeHandler, RangeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

__all__ = ["counts", "slow_server"]

PIECE = 32 * 1024


class SlowHandler(RangeHandler):
    """Waits before it answers."""

    server: SlowServer

    def setup(self) -> None:
        """Begin a connection, which the other end knows a round trip later."""
        super().setup()
        self.connected_at = time.monotonic() + self.server.handshake

    def answer(self, *, send_body: bool) -> None:
        """Answer after the latency."""
        if self.path == "/counts":
            self.tell_counts()
            return
        handshake = max(0.0, self.connected_at - time.monotonic())
        time.sleep(handshake + self.server.latency)
        super().answer(send_body=send_body)

    def tell_counts(self) -> None:
        """Send requests and bytes, and count anew."""
        found = [self.server.requests.total(), self.server.bytes.total()]
        self.server.reset_counts()
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_body(self, read: Callable[[int], bytes], nbytes: int) -> None:
        """Send as fast as the link does."""
        if not self.server.bandwidth:
            super().send_body(read, nbytes)
            return
        for start in range(0, nbytes, PIECE):
            n = min(PIECE, nbytes - start)
            self.server.wait_for_link(n)
            super().send_body(read, n)


class SlowServer(RangeServer):
    """A range server with latency (seconds) and bandwidth (bytes a second, 0: any)."""

    def __init__(
        self, directory: Path, latency: float, bandwidth: float, handshake: float
    ) -> None:
        super().__init__(directory, SlowHandler)
        self.latency = latency
        self.handshake = handshake
        self.bandwidth = bandwidth
        self._link = threading.Lock()
        self._free_at = 0.0

    def wait_for_link(self, nbytes: int) -> None:
        """Wait until the link has carried so many bytes more."""
        with self._link:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + nbytes / self.bandwidth
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))


def _serve(directory: Path, link: tuple[float, float, float], tell: Connection) -> None:
    with SlowServer(directory, *link) as server:
        tell.send(server.url)
        tell.recv()  # until the other end is closed or says so


@contextmanager
def slow_server(
    directory: Path, latency: float, bandwidth: float = 0.0, *, handshake: bool = True
) -> Iterator[str]:
    """Serve a directory while the context lasts; give the URL."""
    link = (latency, bandwidth, latency if handshake else 0.0)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(directory, link, there), daemon=True
    )
    process.start()
    try:
        if not here.poll(30):
            msg = "the server does not start"
            raise RuntimeError(msg)
        yield here.recv()
    finally:
        process.terminate()
        process.join(10)


def counts(url: str) -> tuple[int, int]:
    """Give requests and bytes since this was last asked."""
    with urlopen(f"{url}/counts", timeout=30) as answer:  # noqa: S310  (this server)
        requests, nbytes = json.load(answer)
    return requests, nbytes
