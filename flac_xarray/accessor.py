"""``.flacraster`` on Datasets and DataArrays.

Strategy: doors to `flac_xarray.dataset_writer` and nothing else. Importing this module
registers the accessor and loads only xarray; the engine imports it too.
"""

from __future__ import annotations

import os
from typing import Any

import xarray as xr

__all__ = ["FlacRasterAccessor"]


@xr.register_dataset_accessor("flacraster")  # type: ignore[no-untyped-call]
@xr.register_dataarray_accessor("flacraster")  # type: ignore[no-untyped-call]
class FlacRasterAccessor:
    """Write what it is on: ``ds.flacraster.to_file("scene.flac")``."""

    def __init__(self, data: xr.Dataset | xr.DataArray) -> None:
        self._data = data

    def to_file(self, target: str | os.PathLike[str], **options: Any) -> Any:
        """Write as a FLAC raster; see `flac_xarray.dataset_writer.write`.

        Parameters
        ----------
        target
            Path or URL.
        **options
            ``encoding``, ``tile_size``, ``effort``, ``overwrite``,
            ``storage_options``, ``threads``, ``overviews``, ``resampling``,
            ``interleave``, ``compute``, ``region``, ``append_dim``.

        Returns
        -------
        Delayed or None
            With ``compute=False``.

        Raises
        ------
        UnsupportedDataError
            Something cannot be stored, named in the message; nothing was written.
        FileExistsError
            The target exists and `overwrite` is false.
        """
        from flac_xarray.dataset_writer import write

        return write(self._data, target, **options)
