"""Which source suits what the user gave.

Strategy: one function with one question after the other, cheapest first. fsspec is
imported only when something is not plainly local.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

from flac_xarray.errors import SourceError
from flac_xarray.extras import what_to_install
from flac_xarray.naming import Secrets, display_name, split_chain
from flac_xarray.sources.archive_source import find_member
from flac_xarray.sources.azure_source import AzureSource
from flac_xarray.sources.file_source import FileSource
from flac_xarray.sources.fsspec_source import (
    LOCKS,
    BlockingFsspecSource,
    FsspecSource,
)
from flac_xarray.sources.gcs_source import GcsSource
from flac_xarray.sources.http_source import HttpSource
from flac_xarray.sources.memory_source import FileObjectSource, MemorySource
from flac_xarray.sources.planned import PlannedSource
from flac_xarray.sources.protocol import FetchLimits, Source
from flac_xarray.sources.retrying import SourceNotFoundError
from flac_xarray.sources.s3_source import S3Source

__all__ = ["Openable", "open_source"]

Openable = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Source


def open_source(
    obj: Openable,
    storage_options: Mapping[str, Any] | None = None,
    limits: FetchLimits | None = None,
) -> Source:
    """Give the source for a path, URL, bytes or open file.

    Opening a URL makes no request; opening a local file opens it.

    Parameters
    ----------
    obj
        A local path; a URL of any fsspec protocol, chained ones included; bytes; a
        binary file that can seek, opened here or by fsspec; or a source, which is
        returned as it is.
    storage_options
        Options of the fsspec file system: credentials, headers, endpoint. Of no
        meaning for local files and bytes.
    limits
        How to fetch; by default what suits the kind of source.

    Raises
    ------
    SourceNotFoundError
        There is no such local file.
    SourceError
        The URL's protocol is not known or not installed, or the file system cannot
        be made with these options.
    TypeError
        `obj` is none of these.

    Examples
    --------
    >>> open_source(b"fLaC").read_prefix(2).data.tobytes()
    b'fL'
    """
    if isinstance(obj, Source):
        return obj
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return MemorySource(obj, limits)
    if source := _of_fsspec(obj, limits):
        return source
    if isinstance(obj, (str, os.PathLike)):
        return _open_text(os.fspath(obj), storage_options or {}, limits)
    if hasattr(obj, "read") and hasattr(obj, "seek"):
        return FileObjectSource(obj, limits)
    msg = (
        f"cannot read from {type(obj).__name__}: expected a path, a URL, bytes, "
        "or a binary file that can seek"
    )
    raise TypeError(msg)


def _of_fsspec(obj: Any, limits: FetchLimits | None) -> Source | None:
    """Give the source of an object that fsspec made, None for any other.

    Of its open files, and of universal_pathlib's paths, the file system behind them is
    used, which can do several ranges at once. A compressed file's ranges are not those
    of what it decompresses to: that one is read through itself.
    """
    fs, path = getattr(obj, "fs", None), getattr(obj, "path", None)
    if fs is None or not hasattr(fs, "cat_file") or not isinstance(path, str):
        return None
    if getattr(obj, "compression", None) is not None:
        ours = hasattr(obj, "open")
        return FileObjectSource(obj.open() if ours else obj, limits, owned=ours)
    return _on_filesystem(fs, path, fs.unstrip_protocol(path), limits)


def _open_text(
    text: str, options: Mapping[str, Any], limits: FetchLimits | None
) -> Source:
    if "://" in text or len(split_chain(text)) > 1:
        return _open_url(text, options, limits)
    return FileSource.open(text, limits)


def _open_url(
    url: str, options: Mapping[str, Any], limits: FetchLimits | None
) -> Source:
    import fsspec

    name = display_name(url)
    secrets = Secrets(url, options)
    try:
        if len(split_chain(url)) == 1 and "::" in url:
            # An IPv6 address, which fsspec takes for a chain.
            fs, path = fsspec.filesystem(url.partition("://")[0], **options), url
        else:
            with _downloading(url):
                fs, path = fsspec.core.url_to_fs(url, **options)
    except FileNotFoundError as error:  # an archive is opened at once
        msg = f"{name}: there is no such file"
        raise SourceNotFoundError(msg, url=name) from secrets.presentable(error)
    except ImportError as error:
        msg = f"{name}: {what_to_install(url, error)}"
        raise SourceError(msg, url=name) from error
    except Exception as error:  # noqa: BLE001 - file systems raise what they like
        why = secrets.clean(f"{type(error).__name__}: {error}")
        msg = f"{name}: cannot be opened: {why}"
        raise SourceError(msg, url=name) from secrets.presentable(error)
    return _on_filesystem(fs, path, url, limits)


def _downloading(url: str) -> AbstractContextManager[object]:
    """Keep others out while the archive behind a cache is downloaded.

    fsspec's caches show what they have downloaded so far as the whole.
    """
    from fsspec.implementations.cached import CachingFileSystem

    cached = {"simplecache", "filecache", "blockcache", "cached"} & {
        *split_chain(url)[1:]
    }
    return LOCKS.of(CachingFileSystem) if cached else nullcontext()


def _on_filesystem(fs: Any, path: str, url: str, limits: FetchLimits | None) -> Source:
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    while isinstance(fs, DirFileSystem):
        fs, path = fs.fs, fs._join(path)  # noqa: SLF001 - it has no other way to say it
    kind = type(fs)  # not fs.async_impl: a cache answers for what it caches
    if issubclass(kind, LocalFileSystem):
        return FileSource.open(path, limits)
    if member := _in_archive(fs, path, url, limits):
        return member
    if not kind.async_impl:
        return BlockingFsspecSource(fs, path, url=url, limits=limits)
    if "http" in _protocols(kind):
        return HttpSource(fs, path, url=url, limits=limits)
    for store in (S3Source, GcsSource, AzureSource):
        if store.speaks(fs):
            return store(fs, path, url=url, limits=limits)
    return FsspecSource(fs, path, url=url, limits=limits)


def _in_archive(
    fs: Any, path: str, url: str, limits: FetchLimits | None
) -> Source | None:
    """Give the source of a file that lies uncompressed in an archive."""
    from fsspec.archive import AbstractArchiveFileSystem

    if not isinstance(fs, AbstractArchiveFileSystem) or not hasattr(fs, "fo"):
        return None
    archive = _of_fsspec(fs.fo, limits)
    if not (hasattr(fs, "zip") or hasattr(fs, "tar")):  # another kind, libarchive's
        return None
    if not isinstance(archive, PlannedSource):
        return None
    return find_member(fs, path, display_name(url), archive)


def _protocols(kind: Any) -> tuple[str, ...]:
    protocol = kind.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
