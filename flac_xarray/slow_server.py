"""A web server as far away as you like, in a process of its own, that keeps a log.

Strategy: `RangeServer` answers after a latency, and runs in another process, so that a
client is measured with an interpreter of its own, as it is with a real server. What
was asked for, and when, is kept there and handed out as JSON under a path of its own.
For demonstrations, benchmarks and tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.request import urlopen

from flac_xarray.range_server import RangeHandler, RangeServer

__all__ = ["ServedRequest", "SlowServer"]

LOG: Final = "/.log"
"""Asking for this path gives the log and begins a new one."""
START_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request as the server saw it."""

    path: str
    """What was asked for, with the slash in front."""
    range: str
    """The Range field, empty when all was asked for."""
    nbytes: int
    """Bytes of body that were sent."""
    began: float
    """When it came, in seconds since 1970."""
    ended: float
    """When all was sent."""


class _Handler(RangeHandler):
    """Waits before it answers, and notes what it answered."""

    server: _Server

    def answer(self, *, send_body: bool) -> None:
        if self.path == LOG:
            self.send_log()
            return
        self.sent = 0
        asked, began = self.headers.get("Range", ""), time.time()
        with self.server.answering():
            time.sleep(self.server.latency)
            super().answer(send_body=send_body)
            self.server.note(
                ServedRequest(self.path, asked, self.sent, began, time.time())
            )

    def send_body(self, read: object, nbytes: int) -> None:
        super().send_body(read, nbytes)  # type: ignore[arg-type]
        self.sent += nbytes

    def send_log(self) -> None:
        body = json.dumps([astuple(request) for request in self.server.taken()])
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


class _Server(RangeServer):
    """The server inside the other process."""

    def __init__(self, directory: str, latency: float) -> None:
        super().__init__(directory, _Handler)
        self.latency = latency
        self._log: list[ServedRequest] = []
        self._active = 0
        self._change = threading.Condition()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        with self._change:
            self._active += 1
        try:
            yield
        finally:
            with self._change:
                self._active -= 1
                self._change.notify_all()

    def note(self, request: ServedRequest) -> None:
        with self._change:
            self._log.append(request)

    def taken(self) -> list[ServedRequest]:
        with self._change:
            # A client has its answer a moment before it is noted here.
            self._change.wait_for(lambda: not self._active, timeout=1.0)
            log, self._log = self._log, []
        return log


class SlowServer:
    """Serve a directory from another process while the context lasts.

    Parameters
    ----------
    directory
        Its files are served, on the loopback interface.
    latency
        Seconds before each answer.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_bytes(b"abcdef")
    ...     with SlowServer(folder, latency=0.01) as server:
    ...         body = urlopen(server.url_of("a.txt")).read()
    ...         [(request.path, request.nbytes) for request in server.take_log()]
    [('/a.txt', 6)]
    """

    def __init__(self, directory: str | os.PathLike[str], latency: float) -> None:
        self.directory = Path(directory)
        self.latency = latency
        self.url = ""

    def url_of(self, name: str) -> str:
        """Give the URL of a file in the directory."""
        return f"{self.url}/{name}"

    def take_log(self) -> list[ServedRequest]:
        """Give the requests since the last call, in the order they were answered."""
        with urlopen(self.url + LOG, timeout=START_TIMEOUT) as answer:  # noqa: S310
            return [ServedRequest(*row) for row in json.load(answer)]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", __name__, str(self.directory)]
        self._process = subprocess.Popen(  # noqa: S603 - this module
            [*command, str(self.latency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self._process.wait()
            msg = f"no server for {self.directory} came up"
            raise RuntimeError(msg)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # closes its input, which ends it


def _main(directory: str, latency: str) -> None:
    """Serve until the input ends, as it does when the parent is no more."""
    with _Server(directory, float(latency)) as server:
        print(server.url, flush=True)  # noqa: T201 - the parent reads it
        sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
