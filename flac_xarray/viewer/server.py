"""A server on this machine for the page and for the files that it shows.

Strategy: a `RangeServer` of the page's folder, which also relays ranges of sources that
were registered, whatever they are: a browser needs no credentials and meets no other
origin. Addresses carry a random part and the Host field must be the loopback
interface, so that other pages that the browser has open cannot read files through it.
"""

from __future__ import annotations

import functools
import os
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Final, Self
from urllib.parse import quote, urlsplit

from flac_xarray.errors import FlacRasterError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.range_server import RangeHandler, RangeServer, parse_range
from flac_xarray.sources import Source
from flac_xarray.viewer.page import PAGE_FOLDER, page_query

__all__ = ["ViewServer", "shared_server"]

DATA: Final = "/data/"
"""Path under which registered sources are relayed."""
KINDS: Final = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
"""Content types that a browser insists on; a machine's own table may have others."""
PIECE: Final = 8 << 20
UNKNOWN_SIZE: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Relayed:
    """A source that is relayed."""

    source: Source
    size: int | None
    token: str | None


class _ViewHandler(RangeHandler):
    """Answers for the page's files as for any, and for sources by reading them."""

    server: ViewServer

    def answer(self, *, send_body: bool) -> None:
        """Refuse foreign hosts; relay sources; else send a file of the page."""
        if self.headers.get("Host") != self.server.host:
            self.refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return
        relayed = self.server.relayed(self.path)
        if relayed is None:
            super().answer(send_body=send_body)
            return
        try:
            self.relay(relayed, send_body=send_body)
        except FlacRasterError as error:
            self.explain(HTTPStatus.BAD_GATEWAY, str(error))

    def relay(self, relayed: _Relayed, *, send_body: bool) -> None:
        """Send a range of a source; the whole of it only where its size is known."""
        size = UNKNOWN_SIZE if relayed.size is None else relayed.size
        field = self.headers.get("Range")
        try:
            wanted = parse_range(field, size) if field else None
        except ValueError:
            fields = {"Content-Range": f"bytes */{size}"}
            self.refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, fields)
            return
        if wanted is None and relayed.size is None:
            self.explain(HTTPStatus.BAD_REQUEST, "ask for a range of this file")
            return
        start, stop = wanted or (0, size)
        # The first piece is read before the head is sent: it may fail.
        first = bytes(relayed.source.read_range(start, min(stop, start + PIECE)))
        fields = {
            "Content-Type": "audio/flac",
            "Accept-Ranges": "bytes",
            "Content-Length": str(stop - start),
            "Cache-Control": "no-store",
        }
        if relayed.token:
            fields["ETag"] = f'"{quote(relayed.token, safe="")}"'
        if wanted:
            total = "*" if relayed.size is None else relayed.size
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        self.send_head(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK, fields)
        if not send_body:
            return
        self.send_piece(first)
        for at in range(start + PIECE, stop, PIECE):
            end = min(stop, at + PIECE)
            self.send_piece(bytes(relayed.source.read_range(at, end)))

    def send_piece(self, piece: bytes) -> None:
        """Send and count some bytes of a body."""
        self.server.count_bytes(self.path, len(piece))
        self.wfile.write(piece)

    def explain(self, status: HTTPStatus, text: str) -> None:
        """Answer with a line of text."""
        body = text.encode()
        fields = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(body)),
        }
        self.send_head(status, fields)
        self.wfile.write(body)

    def describe(self, path: Path, stat: object) -> dict[str, str]:
        """Give the header fields of a file of the page."""
        fields = super().describe(path, stat)  # type: ignore[arg-type]
        kind = KINDS.get(path.suffix)
        return fields | {
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            **({"Content-Type": kind} if kind else {}),
        }


class ViewServer(RangeServer):
    """Serve the viewer and registered sources on a loopback port.

    Parameters
    ----------
    port
        0 takes a free one.

    Examples
    --------
    >>> from flac_xarray.sources import open_source
    >>> with ViewServer() as server:
    ...     url = server.show(open_source(b"fLaC"), "a.flac")
    >>> url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(PAGE_FOLDER, _ViewHandler, port=port)
        self._relayed: dict[str, _Relayed] = {}

    @property
    def host(self) -> str:
        """What the Host field of a request must be."""
        return f"127.0.0.1:{self.server_address[1]}"

    def start(self) -> Self:
        """Answer until the process ends, without a context."""
        return self.__enter__()

    def show(self, source: Source, name: str) -> str:
        """Relay a source and give the address of the page that shows it.

        Parameters
        ----------
        source
            Read for as long as the server runs.
        name
            What the page calls it.

        Raises
        ------
        SourceError
            Its first bytes cannot be had.
        """
        prefix = source.read_prefix(1)
        short = PurePosixPath(urlsplit(name).path.replace("\\", "/")).name or "raster"
        path = f"{DATA}{secrets.token_urlsafe(12)}/{quote(short)}"
        self._relayed[path] = _Relayed(source, prefix.size, prefix.token)
        return f"{self.url}/{page_query(path, short)}"

    def show_url(self, url: str) -> str:
        """Give the address of the page that reads a URL by itself."""
        return f"{self.url}/{page_query(url)}"

    def relayed(self, target: str) -> _Relayed | None:
        """Give the source that a request's target names."""
        return self._relayed.get(urlsplit(target).path)

    def find(self, target: str) -> Path | None:
        """Give a file of the page, ``index.html`` for its root."""
        path = super().find("/index.html" if urlsplit(target).path == "/" else target)
        return None if path is None or path.suffix in (".py", ".pyc") else path


_STARTING = fork_safe_lock()


@functools.cache
def _started(pid: int) -> ViewServer:
    del pid  # a forked child has none of its parent's threads: it starts its own
    return ViewServer().start()


def shared_server() -> ViewServer:
    """Give this process's server, which is started when it is first needed."""
    with _STARTING:
        return _started(os.getpid())
