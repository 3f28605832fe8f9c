"""Lossless, streamable rasters whose tiles are complete FLAC streams.

Open with xarray: ``xr.open_dataset("scene.flac", engine="flacraster")``. Names load
on first use, so importing the package costs nothing and pulls in neither rasterio nor
click.

Examples
--------
>>> import numpy as np
>>> import flac_xarray
>>> data = flac_xarray.encode_array(np.eye(3, dtype="float32"))
>>> with flac_xarray.FlacRaster.open(data) as raster:
...     raster.read().trace()
np.float32(3.0)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flac_xarray.array_writer import encode_array, write_array
    from flac_xarray.dataset_writer import write
    from flac_xarray.errors import (
        CorruptTileError,
        FlacRasterError,
        FormatError,
        SourceError,
        UnsupportedDataError,
        WindowError,
    )
    from flac_xarray.file_join import merge
    from flac_xarray.file_update import write_template
    from flac_xarray.geotiff import convert_to_flac, convert_to_geotiff
    from flac_xarray.grid import Window
    from flac_xarray.header import ArrayInfo, Header
    from flac_xarray.header_cache import fetch_headers
    from flac_xarray.reader import FlacRaster
    from flac_xarray.vsi import register_gdal
    from flac_xarray.writer import FlacRasterWriter

__version__ = "0.1.0"

_HOME = {
    "ArrayInfo": "header",
    "CorruptTileError": "errors",
    "FlacRaster": "reader",
    "FlacRasterError": "errors",
    "FlacRasterWriter": "writer",
    "FormatError": "errors",
    "Header": "header",
    "SourceError": "errors",
    "UnsupportedDataError": "errors",
    "Window": "grid",
    "WindowError": "errors",
    "convert_to_flac": "geotiff",
    "convert_to_geotiff": "geotiff",
    "encode_array": "array_writer",
    "fetch_headers": "header_cache",
    "merge": "file_join",
    "register_gdal": "vsi",
    "write": "dataset_writer",
    "write_array": "array_writer",
    "write_template": "file_update",
}

__all__ = [
    "ArrayInfo",
    "CorruptTileError",
    "FlacRaster",
    "FlacRasterError",
    "FlacRasterWriter",
    "FormatError",
    "Header",
    "SourceError",
    "UnsupportedDataError",
    "Window",
    "WindowError",
    "__version__",
    "convert_to_flac",
    "convert_to_geotiff",
    "encode_array",
    "fetch_headers",
    "merge",
    "register_gdal",
    "write",
    "write_array",
    "write_template",
]


if not TYPE_CHECKING:  # a type checker must not take any name for a public one

    def __getattr__(name: str) -> Any:
        """Load a public name from its module on first use."""
        if name not in _HOME:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
