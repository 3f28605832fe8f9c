"""Opening FLAC rasters as rasterio datasets.

Strategy: by path under ``/vsiflac/`` wherever a file system can be added to rasterio's
GDAL, because such a path works in every thread, in VRT files and for every tool. Where
it cannot (a GDAL whose functions are hidden from ctypes, as on Windows), rasterio's own
`opener` reads the same virtual GeoTIFF; there the dataset must be read and closed in
the thread that opened it, because rasterio keeps its openers in a context variable.
"""

from __future__ import annotations

import io
import logging
import os
from typing import Any, Final, Literal

import rasterio
from rasterio.abc import FileContainer
from rasterio.errors import RasterioIOError

from flac_xarray.errors import FlacRasterError
from flac_xarray.reader import FlacRaster
from flac_xarray.virtual_file import VirtualFile
from flac_xarray.vsi import options_for, register_gdal, vsi_path

__all__ = ["open", "way"]

NAME: Final = "flac_xarray.tif"
"""What a file is called in rasterio's container."""

log = logging.getLogger(__name__)


def way() -> Literal["vsiflac", "opener"]:
    """Say how rasterio reads FLAC rasters in this process.

    Examples
    --------
    >>> way() in ("vsiflac", "opener")
    True
    """
    try:
        register_gdal()
    except OSError:
        return "opener"
    return "vsiflac"


def open(  # noqa: A001 - rasterio's name
    path: str | os.PathLike[str], **storage_options: Any
) -> rasterio.DatasetReader:
    """Open a FLAC raster as a rasterio dataset: overviews, masks, tags and all.

    Parameters
    ----------
    path
        Path or URL.
    **storage_options
        Options of the fsspec file system, kept for this URL in this process.

    Returns
    -------
    rasterio.DatasetReader
        Of driver GTiff: GDAL sees an uncompressed GeoTIFF.

    Raises
    ------
    RasterioIOError
        It cannot be opened; the message is ours.
    """
    name = os.fspath(path)
    if way() == "vsiflac":
        register_gdal({name: storage_options} if storage_options else None)
        return rasterio.open(vsi_path(name))
    return _open_with_opener(name, storage_options)


def _open_with_opener(
    name: str, storage_options: dict[str, Any]
) -> rasterio.DatasetReader:
    try:
        raster = FlacRaster.open(
            name, storage_options=storage_options or options_for(name)
        )
        try:
            file = VirtualFile(raster)
        except BaseException:
            raster.close()
            raise
    except (FlacRasterError, OSError) as error:
        raise RasterioIOError(f"flac_xarray: {error}") from error
    return rasterio.open(NAME, opener=_Opener(file))


class _Opener(FileContainer):  # type: ignore[misc]
    """A folder, to rasterio, of one file.

    Not rasterio's container of several byte ranges: that one hands out whatever is in
    memory when a range cannot be read, so that a damaged tile would give wrong pixels.
    """

    def __init__(self, file: VirtualFile) -> None:
        self.file = file

    def open(self, path: str, mode: str = "r", **_: Any) -> _Resource:
        del path, mode
        return _Resource(self.file)

    def isfile(self, path: str) -> bool:
        return path.endswith(NAME)

    def isdir(self, path: str) -> bool:
        del path
        return False

    def ls(self, path: str) -> list[str]:
        del path
        return [NAME]

    def mtime(self, path: str) -> int:
        del path
        return 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)

    def size(self, path: str) -> int:
        del path
        return self.file.size


class _Resource(io.RawIOBase):
    """The open file."""

    def __init__(self, file: VirtualFile) -> None:
        self.file = file
        self.at = 0

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.file.size}
        self.at = base[whence] + offset
        return self.at

    def read(self, size: int | None = -1) -> bytes:
        stop = self.file.size if size is None or size < 0 else self.at + size
        try:
            data = self.file.read(self.at, stop)
        except Exception:
            # rasterio has no way to hand it on; a short read is an error to GDAL.
            log.exception("cannot read %s", self.file.raster.name)
            return b""
        self.at += len(data)
        return data
