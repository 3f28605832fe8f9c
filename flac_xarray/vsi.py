"""``/vsiflac/``: GDAL's programs inside this process open FLAC rasters by their path.

Strategy: GDAL asks a file system for bytes; this one has one file per FLAC raster, its
virtual GeoTIFF. Every callback catches everything, since an exception must not cross
into C: what went wrong becomes GDAL's own error, which rasterio raises. Handles are
numbers in a dict, whose single operations are atomic, so that there is no lock that a
fork could leave held.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from flac_xarray import vsi_abi
from flac_xarray.errors import FlacRasterError
from flac_xarray.reader import FlacRaster
from flac_xarray.virtual_file import VirtualFile

__all__ = ["PREFIX", "options_for", "register_gdal", "vsi_path"]

PREFIX: Final = "/vsiflac/"
_PREFIX: Final = PREFIX.encode()
"""GDAL keeps its address."""
RAW_CACHE: Final = ("GDAL_MAX_RAW_BLOCK_CACHE_SIZE", 64 << 20)
"""How many bytes GDAL asks for at once; its own 10 MB cut a wide window into tiles."""
SIDECARS: Final = (".aux.xml", ".ovr", ".msk", ".aux", ".xml", ".imd", ".rpb", ".txt")
"""What GDAL looks for beside a file, and never finds here."""

_options: dict[str, dict[str, Any]] = {}
_handles: dict[int, _Handle] = {}
_numbers = itertools.count(1)
_kept: list[Any] = []
"""The callbacks, which must live as long as GDAL."""


class _Handle:
    """An open file and where it is read next."""

    __slots__ = ("at", "file")

    def __init__(self, file: VirtualFile) -> None:
        self.file = file
        self.at = 0


def register_gdal(
    storage_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make rasterio open FLAC rasters under ``/vsiflac/``, in this process.

    ``/vsiflac/`` is followed by a path or a URL of any fsspec protocol:
    ``/vsiflac//data/a.flac``, ``/vsiflac/https://host/a.flac``. Calling it again only
    adds options. See docs/gdal.md.

    Parameters
    ----------
    storage_options
        Options of the fsspec file system (credentials, headers) for all URLs that
        begin with a prefix, which ends where a part of the URL ends; the longest
        prefix counts. They are never part of a path that GDAL could show.

    Raises
    ------
    OSError
        This build of rasterio does not let a file system be added: use
        `flac_xarray.rasterio.open`.

    Examples
    --------
    >>> register_gdal({"s3://bucket": {"anon": True}})
    >>> options_for("s3://bucket/a.flac"), options_for("s3://bucket-of-others/a.flac")
    ({'anon': True}, {})
    """
    for prefix, options in (storage_options or {}).items():
        _options[prefix] = dict(options)
    if _kept:
        return
    from rasterio._env import get_gdal_config, set_gdal_config

    callbacks = vsi_abi.allocate()
    for name, function in _CALLBACKS.items():
        setattr(callbacks.contents, name, function)
    vsi_abi.install(_PREFIX, callbacks)
    _kept.append(callbacks)
    if get_gdal_config(RAW_CACHE[0]) is None:
        set_gdal_config(*RAW_CACHE)


def vsi_path(path: str | os.PathLike[str]) -> str:
    """Give the name under which GDAL opens a path or URL.

    Examples
    --------
    >>> vsi_path("https://host/a.flac"), vsi_path("/data/a.flac")
    ('/vsiflac/https://host/a.flac', '/vsiflac//data/a.flac')
    """
    text = os.fspath(path)
    return text if text.startswith(PREFIX) else PREFIX + text


def options_for(url: str) -> dict[str, Any]:
    """Give the options of the longest registered prefix of a URL."""
    fitting = [prefix for prefix in _options if _begins(url, prefix)]
    return _options[max(fitting, key=len)] if fitting else {}


def _begins(url: str, prefix: str) -> bool:
    """Whether a prefix ends where a part of the URL ends: hosts are not cut."""
    rest = url.removeprefix(prefix)
    return url.startswith(prefix) and (prefix.endswith("/") or rest[:1] in "/?#")


def _guarded(failed: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn what a callback raises into GDAL's error and this answer."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            try:
                return function(*args)
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                _tell(error)
                return failed

        return call

    return decorate


def _tell(error: BaseException) -> None:
    ours = isinstance(error, (FlacRasterError, OSError))
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    vsi_abi.cpl_error(f"flac_xarray: {text}")


@_guarded(None)
def _open(_: object, name: bytes, mode: bytes) -> int | None:
    path = os.fsdecode(name).removeprefix(PREFIX)
    if path.lower().endswith(SIDECARS):
        return None
    if set(mode) & set(b"wa+"):
        msg = f"{path}: FLAC rasters are read through {PREFIX}, not written"
        raise OSError(msg)
    raster = FlacRaster.open(path, storage_options=options_for(path))
    try:
        handle = _Handle(VirtualFile(raster))
    except BaseException:
        raster.close()
        raise
    number = next(_numbers)
    _handles[number] = handle
    return number


@_guarded(0)
def _tell_position(number: int) -> int:
    return _handles[number].at


@_guarded(-1)
def _seek(number: int, offset: int, whence: int) -> int:
    handle = _handles[number]
    base = {os.SEEK_SET: 0, os.SEEK_CUR: handle.at, os.SEEK_END: handle.file.size}
    handle.at = base[whence] + offset
    return 0


@_guarded(0)
def _read(number: int, buffer: int, size: int, count: int) -> int:
    handle = _handles[number]
    nbytes = max(0, min(size * count, handle.file.size - handle.at))
    if nbytes == 0:
        return 0
    handle.file.read_into([(handle.at, _memory(buffer, nbytes))])
    handle.at += nbytes
    return nbytes // size


@_guarded(-1)
def _read_many(number: int, count: int, buffers: Any, starts: Any, sizes: Any) -> int:
    file = _handles[number].file
    wanted = [(starts[k], _memory(buffers[k], sizes[k])) for k in range(count)]
    if any(start + len(out) > file.size for start, out in wanted):
        return -1
    file.read_into(wanted)
    return 0


def _memory(address: int, nbytes: int) -> Any:
    """Give GDAL's memory as an array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))


@_guarded(1)
def _at_end(number: int) -> int:
    handle = _handles[number]
    return int(handle.at >= handle.file.size)


@_guarded(-1)
def _close(number: int) -> int:
    _handles.pop(number).file.raster.close()
    return 0


@_guarded(None)
def _siblings(_: object, name: bytes) -> int:
    """Say that a file is alone, so that GDAL looks for nothing beside it."""
    return vsi_abi.string_list(name.rpartition(b"/")[2])


_CALLBACKS: Final = {
    "open": vsi_abi.Open(_open),
    "tell": vsi_abi.Tell(_tell_position),
    "seek": vsi_abi.Seek(_seek),
    "read": vsi_abi.Read(_read),
    "read_multi_range": vsi_abi.ReadMany(_read_many),
    "eof": vsi_abi.Whether(_at_end),
    "close": vsi_abi.Whether(_close),
    "sibling_files": vsi_abi.Siblings(_siblings),
}
