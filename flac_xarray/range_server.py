"""A small web server on this machine, with range requests, that counts.

Strategy: the standard library's threaded HTTP server with the parts of RFC 9110 that
readers of large files use: GET and HEAD, single ranges, ETag, If-Range, 416. It shows
the files of one directory and nothing else, on the loopback interface only. For
demonstrations and tests; it is no server for production.
"""

from __future__ import annotations

import mimetypes
import os
import re
import threading
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import unquote, urlsplit

__all__ = ["RangeHandler", "RangeServer", "parse_range"]

Reads = Callable[[int], bytes]
ONE_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))", re.IGNORECASE)
PIECE = 256 * 1024


def parse_range(field: str, size: int) -> tuple[int, int] | None:
    """Turn a Range field into a half-open range (RFC 9110, section 14.1.2).

    Parameters
    ----------
    field
        Value of the Range header field.
    size
        Bytes of the file.

    Returns
    -------
    (start, stop), or None where the field is to be ignored: another unit, several
    ranges, or not a range at all.

    Raises
    ------
    ValueError
        The range cannot be satisfied: status 416.

    Examples
    --------
    >>> parse_range("bytes=2-5", 10), parse_range("bytes=7-", 10)
    ((2, 6), (7, 10))
    >>> parse_range("bytes=-3", 10), parse_range("rows=1-2", 10)
    ((7, 10), None)
    """
    match = ONE_RANGE.fullmatch(field.strip())
    if not match:
        return None
    if match[3] is not None:
        start, stop = max(0, size - int(match[3])), size
    else:
        start = int(match[1])
        stop = int(match[2]) + 1 if match[2] else size
        if match[2] and stop <= start:
            return None  # "bytes=5-2" is invalid, which is to be ignored
        stop = min(stop, size)
    if start >= stop:
        msg = f"range {field!r} of a file of {size} bytes"
        raise ValueError(msg)
    return start, stop


class RangeHandler(BaseHTTPRequestHandler):
    """Answer one request; `RangeServer` owns the directory and the counts."""

    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm: ClassVar[bool] = True  # head and body are two writes
    server: RangeServer

    def do_GET(self) -> None:
        """Answer with the file, or a range of it."""
        self.answer(send_body=True)

    def do_HEAD(self) -> None:
        """Answer with the head alone."""
        self.answer(send_body=False)

    def answer(self, *, send_body: bool) -> None:
        """Find the file and the range, and send them."""
        path = self.server.find(self.path)
        if path is None:
            self.refuse(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            fields = self.describe(path, stat)
            try:
                wanted = self.wanted_range(stat.st_size, fields["ETag"])
            except ValueError:
                self.refuse(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                    {"Content-Range": f"bytes */{stat.st_size}"},
                )
                return
            start, stop = wanted or (0, stat.st_size)
            if wanted:
                fields["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
            fields["Content-Length"] = str(stop - start)
            self.send_head(
                HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK, fields
            )
            if send_body:
                file.seek(start)
                self.send_body(file.read, stop - start)

    def wanted_range(self, size: int, etag: str) -> tuple[int, int] | None:
        """Give the range to send, None for the whole file."""
        field = self.headers.get("Range")
        # A range of another version than the client has is of no use to it.
        if field is None or self.headers.get("If-Range", etag) != etag:
            return None
        return parse_range(field, size)

    def describe(self, path: Path, stat: os.stat_result) -> dict[str, str]:
        """Give the header fields that belong to the file."""
        return {
            "Content-Type": mimetypes.guess_type(path.name)[0]
            or "application/octet-stream",
            "Accept-Ranges": "bytes",
            "ETag": f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"',
            "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
        }

    def refuse(self, status: HTTPStatus, fields: dict[str, str] | None = None) -> None:
        """Answer without a body."""
        self.send_head(status, {**(fields or {}), "Content-Length": "0"})

    def send_head(self, status: HTTPStatus, fields: dict[str, str]) -> None:
        """Send the status line and the header fields."""
        self.server.count_request(self.path)
        self.send_response(status)
        for name, text in fields.items():
            self.send_header(name, text)
        self.end_headers()

    def send_body(self, read: Reads, nbytes: int) -> None:
        """Send `nbytes` of what `read` gives, in pieces."""
        left = nbytes
        while left and (piece := read(min(left, PIECE))):
            self.server.count_bytes(self.path, len(piece))
            self.wfile.write(piece)
            left -= len(piece)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        """Say nothing: URLs may carry secrets, and tests read the counts."""


class RangeServer(ThreadingHTTPServer):
    """Serve a directory on a free loopback port while the context lasts.

    Parameters
    ----------
    directory
        Its files are served, those of its folders too; nothing outside it.
    handler
        What answers the requests.
    host, port
        Where to listen; port 0 takes a free one.

    Examples
    --------
    >>> import tempfile, urllib.request
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_bytes(b"abcdef")
    ...     with RangeServer(folder) as server:
    ...         ask = urllib.request.Request(server.url_of("a.txt"))
    ...         ask.add_header("Range", "bytes=1-2")
    ...         with urllib.request.urlopen(ask) as answer:
    ...             print(answer.status, answer.read())
    ...         server.requests["/a.txt"], server.bytes["/a.txt"]
    206 b'bc'
    (1, 2)
    """

    daemon_threads = True
    block_on_close = False  # connections that are kept open would be waited for
    request_queue_size = 128  # many clients come at once

    def __init__(
        self,
        directory: str | os.PathLike[str],
        handler: type[RangeHandler] = RangeHandler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__((host, port), handler)
        self.directory = Path(directory).resolve()
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        """Where the directory is served, without a slash at the end."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def url_of(self, name: str) -> str:
        """Give the URL of a file in the directory."""
        return f"{self.url}/{name}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def find(self, target: str) -> Path | None:
        """Give the file that a request's target names, None when there is none."""
        name = unquote(urlsplit(target).path).lstrip("/")
        if "\0" in name:
            return None
        # After resolving, so that neither dots nor links lead out.
        path = (self.directory / name).resolve()
        inside = path.is_relative_to(self.directory)
        return path if inside and path.is_file() else None

    def reset_counts(self) -> None:
        """Start counting again."""
        with self._counting:
            self.requests.clear()
            self.bytes.clear()

    def count_request(self, target: str) -> None:
        """Count a request for a path (without its query)."""
        with self._counting:
            self.requests[urlsplit(target).path] += 1

    def count_bytes(self, target: str, nbytes: int) -> None:
        """Count bytes of body sent for a path."""
        with self._counting:
            self.bytes[urlsplit(target).path] += nbytes

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes away in the middle is no error here."""
