"""Opening a file: its header and tables, which the process keeps for a minute.

Strategy: opening the same URL fifty times reads its header once. That is safe because
the source remembers the version (ETag, Last-Modified) that the header came from: a
file that was replaced meanwhile is noticed by the first tile that is read, as an error,
and its header is forgotten. Files whose server names no version are not kept.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from flac_xarray.container import is_container
from flac_xarray.errors import NotFlacRasterError
from flac_xarray.file_kinds import kind_of
from flac_xarray.forking import fork_safe_lock
from flac_xarray.header import Header
from flac_xarray.legacy import read_legacy
from flac_xarray.legacy_tiles import LegacyDecoder
from flac_xarray.sources import PlannedSource, Source, open_source
from flac_xarray.tile_index import DEFAULT_PREFETCH, TileIndex, read_container

__all__ = ["OpenFile", "fetch_headers", "forget", "forget_file", "open_file"]

SECONDS: Final = 60.0
"""How long a header is kept."""
MAX_FILES: Final = 256
"""How many are kept."""
MOST_AT_ONCE: Final = 64
"""Headers that `fetch_headers` has under way."""

_files: OrderedDict[str, tuple[float, OpenFile]] = OrderedDict()
_lock = fork_safe_lock()


@dataclass(frozen=True, slots=True)
class OpenFile:
    """What opening a file found out."""

    source: Source
    """Knows which version of the file it reads."""
    header: Header
    index: TileIndex
    token: str | None
    """Name of that version."""
    key: str | None = None
    """Under what it is kept here."""

    @property
    def is_whole(self) -> bool:
        """Whether all its bytes are at hand."""
        return self.index.source is not self.source

    def twin(self) -> OpenFile:
        """Give the same file with counters of its own."""
        # Made by pickling our own object, in this process.
        source = pickle.loads(pickle.dumps(self.source))  # noqa: S301
        return replace(self, source=source, index=self.index.on(source))


def open_file(
    source: Source, prefetch: int, meanwhile: Callable[[], object] | None = None
) -> OpenFile:
    """Read header and tables, unless this process has just read them.

    Parameters
    ----------
    source
        The file.
    prefetch
        Bytes of the first request.
    meanwhile
        What the caller has to do anyway: called while the first request is under way.
    """
    key = _key_of(source)
    kept = _look_up(key)
    if meanwhile is not None:
        if kept is None and isinstance(source, PlannedSource):
            source.begin_prefix(prefetch)
        meanwhile()
    return _read(source, prefetch, key) if kept is None else kept


def _read(source: Source, prefetch: int, key: str | None) -> OpenFile:
    first = source.read_prefix(prefetch)
    data = bytes(first.data)
    # When the whole file is at hand, nothing is asked for twice.
    tiles = open_source(data) if first.size == len(data) else source
    header, index = _read_index(tiles, data, first.size, source.name)
    file = OpenFile(source, header, index, first.token, key)
    if tiles is source:
        _remember(file)
    return file


def fetch_headers(
    urls: Iterable[str], storage_options: Mapping[str, Any] | None = None
) -> None:
    """Read the headers of many files at once, so that opening them next is immediate.

    ``xr.open_mfdataset`` opens one file after the other, each for a round trip or more.
    After this it needs no request, for a minute and for up to 256 files whose server
    names their version.

    Parameters
    ----------
    urls
        URLs of any fsspec protocol; local paths are left alone.
    storage_options
        As they will be given for opening.

    Raises
    ------
    SourceError
        The bytes of a file cannot be had.
    FormatError
        A file is no FLAC raster, or a damaged one.

    Examples
    --------
    >>> fetch_headers([])
    """
    under_way: deque[tuple[Source, str]] = deque()
    for url in urls:
        source = open_source(url, storage_options)
        key = _key_of(source)
        if key is None or _is_kept(key):
            source.close()
            continue
        if isinstance(source, PlannedSource):
            source.begin_prefix(DEFAULT_PREFETCH)
        under_way.append((source, key))
        if len(under_way) >= MOST_AT_ONCE:
            _keep(*under_way.popleft())
    while under_way:
        _keep(*under_way.popleft())


def _keep(source: Source, key: str) -> None:
    with closing(source):
        file = _read(source, DEFAULT_PREFETCH, key)
        # Of a file that came whole nobody would notice that it was replaced, so it is
        # not kept otherwise; here the caller has asked for it, for the next opening.
        if file.is_whole:
            _remember(file)


def _read_index(
    source: Source, prefix: bytes, size: int | None, name: str
) -> tuple[Header, TileIndex]:
    if is_container(prefix):
        return read_container(source, prefix, size)
    legacy = read_legacy(prefix, size, source.read_range)
    if legacy is None:
        found = kind_of(prefix[:64]) or f"it begins with {prefix[:16]!r}"
        msg = f"{name} is not a FLAC raster: {found}"
        raise NotFlacRasterError(msg, found=prefix[:16])
    decode = LegacyDecoder(legacy.comments, legacy.lossy)
    return legacy.header, TileIndex(source, legacy.layout, size, legacy.tables, decode)


def _key_of(source: Source) -> str | None:
    """Name a source before it is read: URL and options; None for local ones."""
    if source.limits.concurrency == 1:
        return None
    try:
        return hashlib.blake2b(pickle.dumps(source), digest_size=16).hexdigest()
    except (TypeError, AttributeError, pickle.PicklingError):
        return None  # options that do not pickle


def _look_up(key: str | None) -> OpenFile | None:
    """Give the file that is kept under a key, if it is not too old."""
    with _lock:
        since, file = _files.get(key or "", (0.0, None))
        if file is None or time.monotonic() - since > SECONDS:
            return None
        if file.is_whole:
            del _files[key or ""]
            return file
        _files.move_to_end(key or "")
    return file.twin()


def _is_kept(key: str) -> bool:
    with _lock:
        since, _ = _files.get(key, (-math.inf, None))
        return time.monotonic() - since <= SECONDS


def _remember(file: OpenFile) -> None:
    """Keep a file that has a key and a version."""
    if file.key is None or file.token is None:
        return
    with _lock:
        _files[file.key] = (time.monotonic(), file)
        while len(_files) > MAX_FILES:
            _files.popitem(last=False)


def forget(key: str | None) -> None:
    """Drop what is kept under a key: the file was replaced."""
    with _lock:
        _files.pop(key or "", None)


def forget_file(
    target: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> None:
    """Drop what is kept of a file: this process has just written it."""
    text = os.fspath(target)
    if "://" in text or "::" in text:  # of local files nothing is kept
        forget(_key_of(open_source(text, storage_options)))
