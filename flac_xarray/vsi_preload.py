"""``dask worker --preload flac_xarray.vsi_preload``: ``/vsiflac/`` in every worker."""

from __future__ import annotations

from flac_xarray.vsi import register_gdal

__all__ = ["dask_setup"]


def dask_setup(_worker: object) -> None:
    """Register ``/vsiflac/`` in the worker's process."""
    register_gdal()
