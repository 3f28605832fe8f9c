"""FLAC rasters as GeoTIFFs over HTTP, for programs that know nothing of them.

Strategy: `range_server`'s HTTP with other files: ``a/b.tif`` is the virtual GeoTIFF of
``a/b.flac``, read in pieces and never held whole. Folders are HTML lists of links,
which GDAL and browsers understand. A few rasters stay open, the least recently used
are closed; a few requests read at a time. On the loopback interface only requests that
name it are answered, so that no web page reaches the files through a name of its own.
"""

from __future__ import annotations

import html
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from flac_xarray.errors import FlacRasterError, SourceError
from flac_xarray.range_server import RangeHandler, RangeServer
from flac_xarray.reader import FlacRaster
from flac_xarray.virtual_file import VirtualFile

__all__ = ["TiffServer"]

FLAC: Final = ".flac"
TIFF: Final = ".tif"
MAX_OPEN: Final = 16
"""Rasters that stay open."""
MAX_READING: Final = 8
"""Requests whose pixels are decoded at the same time."""
CACHE_NBYTES: Final = 16 << 20
"""Decoded tiles kept of each open raster, and as much of the reader."""
PIECE: Final = 1 << 20
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(slots=True)
class _Open:
    """An open raster; closed when nobody reads it any more."""

    file: VirtualFile
    version: tuple[int, ...]
    users: int = 0
    dropped: bool = False


class _Shelf:
    """Open rasters by path, the least recently used closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _Open] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def file(self, path: Path) -> Iterator[VirtualFile]:
        """Lend the virtual file of a raster."""
        entry = self._take(path)
        try:
            yield entry.file
        finally:
            with self._lock:
                entry.users -= 1
                self._close_unused(entry)

    def _take(self, path: Path) -> _Open:
        stat = path.stat()
        version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        with self._lock:
            entry = self._open.get(path)
            if entry is not None and entry.version == version:
                self._open.move_to_end(path)
                entry.users += 1
                return entry
        entry = _Open(_open_file(path), version, users=1)
        with self._lock:
            others = [self._open.pop(path, None)]
            self._open[path] = entry
            while len(self._open) > MAX_OPEN:
                others.append(self._open.popitem(last=False)[1])
            for other in filter(None, others):
                other.dropped = True
                self._close_unused(other)
        return entry

    @staticmethod
    def _close_unused(entry: _Open) -> None:
        if entry.dropped and not entry.users:
            entry.file.raster.close()

    def close(self) -> None:
        """Close all."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].file.raster.close()


def _open_file(path: Path) -> VirtualFile:
    raster = FlacRaster.open(path, cache_nbytes=CACHE_NBYTES)
    try:
        return VirtualFile(raster, CACHE_NBYTES)
    except BaseException:
        raster.close()
        raise


class _TiffHandler(RangeHandler):
    """Answers with a folder's list, or bytes of a virtual GeoTIFF."""

    server: TiffServer
    timeout = 60  # a client that says nothing any more frees its thread

    def answer(self, *, send_body: bool) -> None:
        """Find what is asked for and send it."""
        if not self.server.allows(self.headers.get("Host", "")):
            self.refuse(HTTPStatus.FORBIDDEN)
            return
        found = self.server.look_up(self.path)
        if found is None:
            self.refuse(HTTPStatus.NOT_FOUND)
        elif isinstance(found, str):
            self._send_text(HTTPStatus.OK, found, "text/html", send_body=send_body)
        else:
            try:
                with self.server.shelf.file(found) as file:
                    self._send_file(file, send_body=send_body)
            except (ConnectionError, TimeoutError):  # the client has gone
                raise
            except (FlacRasterError, OSError) as error:
                self._fail(error)

    def _send_file(self, file: VirtualFile, *, send_body: bool) -> None:
        etag = f'"{file.etag}"'
        fields = {
            "Content-Type": "image/tiff",
            "Accept-Ranges": "bytes",
            "ETag": etag,
        }
        if etag in self.headers.get("If-None-Match", ""):
            self.refuse(HTTPStatus.NOT_MODIFIED, {"ETag": etag})
            return
        try:
            wanted = self.wanted_range(file.size, etag)
        except ValueError:
            unsatisfied = {"Content-Range": f"bytes */{file.size}"}
            self.refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, unsatisfied)
            return
        start, stop = wanted or (0, file.size)
        # The first piece is read before the head is sent: damage can still be told.
        stop_first = min(stop, start + PIECE) if send_body else start
        first = self._read(file, start, stop_first)
        status = HTTPStatus.OK
        if wanted:
            status = HTTPStatus.PARTIAL_CONTENT
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
        fields["Content-Length"] = str(stop - start)
        self.send_head(status, fields)
        if send_body:
            self._send_pieces(file, first, stop_first, stop)

    def _send_pieces(
        self, file: VirtualFile, first: bytes, start: int, stop: int
    ) -> None:
        """Send what was read and the rest; end the connection where that fails."""
        try:
            piece = first
            while True:
                self.wfile.write(piece)
                if start >= stop:
                    return
                piece = self._read(file, start, min(stop, start + PIECE))
                start += len(piece)
        except FlacRasterError as error:
            # The head has promised more: a short body says that it is not whole.
            self.close_connection = True
            self.server.tell(f"{self.path}: {error}")

    def _read(self, file: VirtualFile, start: int, stop: int) -> bytes:
        with self.server.reading:
            return file.read(start, stop)

    def _fail(self, error: Exception) -> None:
        self.server.tell(f"{self.path}: {error}")
        missing = isinstance(error, SourceError)
        status = HTTPStatus.NOT_FOUND if missing else HTTPStatus.INTERNAL_SERVER_ERROR
        self._send_text(status, f"{error}\n", "text/plain", send_body=True)

    def _send_text(
        self, status: HTTPStatus, text: str, kind: str, *, send_body: bool
    ) -> None:
        body = text.encode(errors="replace")
        fields = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
        }
        self.send_head(status, fields)
        if send_body and self.command != "HEAD":
            self.wfile.write(body)

    def send_head(self, status: HTTPStatus, fields: dict[str, str]) -> None:
        """Send status and fields, and who may read the answer in a browser."""
        super().send_head(status, {**fields, **self.server.cors})

    def do_OPTIONS(self) -> None:  # noqa: N802 - the base class looks for it
        """Answer a browser that asks before it sends a Range."""
        allowed = {
            "Allow": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match",
        }
        self.refuse(HTTPStatus.NO_CONTENT, allowed if self.server.cors else None)


class TiffServer(RangeServer):
    """Serve FLAC rasters as GeoTIFFs while the context lasts.

    Parameters
    ----------
    paths
        FLAC rasters, and folders whose FLAC rasters are served, with their folders.
        One folder is the root; of several each is one below it, by its name.
    host, port
        Where to listen; port 0 is any free one.
    origin
        A web page's origin that may read the answers, ``*`` for all; none by default.
    tell
        Called with a line for everything that could not be read.

    Raises
    ------
    FileNotFoundError
        A path is not there.
    ValueError
        Two paths have the same name.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        origin: str | None = None,
        tell: Any = lambda _: None,
    ) -> None:
        self.roots = _roots([Path(path).resolve(strict=True) for path in paths])
        super().__init__(".", _TiffHandler, host=host, port=port)
        self.host = host
        self.cors: Mapping[str, str] = _cors(origin)
        self.tell = tell
        self.shelf = _Shelf()
        self.reading = threading.BoundedSemaphore(MAX_READING)

    def server_close(self) -> None:
        """Stop listening and close the rasters."""
        super().server_close()
        self.shelf.close()

    def count_request(self, target: str) -> None:
        """Count nothing: what is asked for is without end here."""

    def count_bytes(self, target: str, nbytes: int) -> None:
        """Count nothing."""

    def allows(self, host: str) -> bool:
        """Whether a request may name the server so: against DNS rebinding."""
        if self.host not in LOOPBACK:
            return True
        return (urlsplit(f"//{host}").hostname or "") in LOOPBACK

    def look_up(self, target: str) -> Path | str | None:
        """Give the FLAC raster that a request's target names, or a folder's list."""
        name = unquote(urlsplit(target).path).strip("/")
        if "\0" in name or "\\" in name:
            return None
        if not name and "" not in self.roots:
            return _listing(self.roots)
        first, _, rest = name.partition("/")
        root, below = (
            (self.roots[""], name)
            if "" in self.roots
            else (self.roots.get(first), rest)
        )
        return None if root is None else _below(root, below)


def _below(root: Path, name: str) -> Path | str | None:
    """Find a name below a root, which nothing leads out of."""
    if root.is_file():
        return None if name else root
    if name.endswith(TIFF):
        path = _inside(root, root / f"{name[: -len(TIFF)]}{FLAC}")
        return path if path and path.is_file() else None
    folder = _inside(root, root / name)
    if folder is None or not folder.is_dir():
        return None
    names = {}
    for path in folder.iterdir():
        if path.is_dir():
            names[f"{path.name}/"] = path
        elif path.suffix == FLAC:
            names[f"{path.stem}{TIFF}"] = path
    return _listing(names)


def _inside(root: Path, path: Path) -> Path | None:
    """Give a path with its links followed, None where they lead out of the root."""
    resolved = path.resolve()
    return resolved if resolved.is_relative_to(root) else None


def _roots(paths: Sequence[Path]) -> dict[str, Path]:
    if len(paths) == 1 and paths[0].is_dir():
        return {"": paths[0]}
    roots = {p.name if p.is_dir() else f"{p.stem}{TIFF}": p for p in paths}
    if len(roots) < len(paths):
        msg = f"two of {[str(p) for p in paths]} have the same name"
        raise ValueError(msg)
    return roots


def _listing(names: Mapping[str, Path]) -> str:
    links = [
        f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>'
        for name in sorted(names)
    ]
    return "<!doctype html><title>FLAC rasters</title><ul>" + "".join(links) + "</ul>"


def _cors(origin: str | None) -> dict[str, str]:
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Content-Range, Content-Length, ETag",
    }
