"""The xarray engine ``flacraster``.

Strategy: open the file, let `raster_layout` or `cf_layout` describe it as lazy
variables, and make plain `open_dataset` give dask arrays with one chunk per tile.
Importing this module loads nothing but xarray, because listing engines imports it;
codec, network and rasterio are imported when a file is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import xarray as xr
from xarray.backends import BackendEntrypoint

from flac_xarray import accessor as _accessor  # noqa: F401  (registers `.flacraster`)
from flac_xarray.errors import FlacRasterError, FormatError

if TYPE_CHECKING:
    from typing import BinaryIO

    from flac_xarray.header import Header
    from flac_xarray.lazy_array import RasterRef

__all__ = ["FlacRasterBackend"]

SNIFF_NBYTES: Final = 4096
"""Bytes of a local file that `guess_can_open` looks at."""
EXTENSIONS: Final = (".flac", ".flacr")
"""Names that a URL of ours ends in."""

Decode = bool | Mapping[str, bool]

DECODERS: Final[dict[str, Any]] = {
    "decode_times": True,
    "decode_timedelta": None,
    "decode_coords": True,
    "use_cftime": None,
    "concat_characters": True,
}
"""What xarray's decoders do by default."""


class FlacRasterBackend(BackendEntrypoint):
    """Open FLAC rasters: ``xr.open_dataset("scene.flac", engine="flacraster")``.

    Examples
    --------
    >>> import numpy as np
    >>> from flac_xarray.array_writer import encode_array
    >>> data = encode_array(np.ones((1, 4, 6), "float32"), tile_size=4)
    >>> ds = xr.open_dataset(data, engine=FlacRasterBackend)
    >>> ds.band_data.chunks
    ((1,), (4,), (4, 2))
    """

    description = "Open lossless FLAC rasters (.flac), lazily, one dask chunk per tile"
    url = "https://pypi.org/project/flac-xarray/"
    supports_groups = True
    open_dataset_parameters = (
        "filename_or_obj",
        "drop_variables",
        "mask_and_scale",
        "decode_times",
        "decode_timedelta",
        "decode_coords",
        "use_cftime",
        "concat_characters",
        "band_as_variable",
        "overview_level",
        "storage_options",
    )

    # xarray hands its decoders over one by one, and asks for no type of its own.
    def open_dataset(  # type: ignore[override]  # noqa: PLR0913
        self,
        filename_or_obj: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: Decode = True,
        decode_times: Any = True,
        decode_timedelta: Any = None,
        decode_coords: Any = True,
        use_cftime: Any = None,
        concat_characters: Any = True,
        band_as_variable: bool = False,
        overview_level: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open a file as a dataset of lazy arrays.

        Parameters
        ----------
        filename_or_obj
            Path, URL of any fsspec protocol, bytes, or an open binary file.
        drop_variables
            Variables to leave out.
        mask_and_scale
            Whether void pixels become NaN and scales are applied, as by
            ``engine="rasterio"``; otherwise pixels come as they are stored.
        decode_times, decode_timedelta, decode_coords, use_cftime, concat_characters
            xarray's decoders, for files that were written from xarray.
        band_as_variable
            Whether each band is a variable ``band_1``, ``band_2``, ...
        overview_level
            Which overview, 0 being the first one below full resolution.
        storage_options
            Options of the fsspec file system: credentials, headers.

        Raises
        ------
        SourceError
            The bytes cannot be had.
        FormatError
            They are not a FLAC raster, or a damaged one.
        ValueError
            There is no such overview.
        """
        ref = _opened(filename_or_obj, storage_options)
        decoders = {
            "mask_and_scale": mask_and_scale,
            "decode_times": decode_times,
            "decode_timedelta": decode_timedelta,
            "decode_coords": decode_coords,
            "use_cftime": use_cftime,
            "concat_characters": concat_characters,
        }
        level = _level(ref.raster().header, overview_level)
        return _dataset(
            ref,
            level,
            decoders,
            band_as_variable=band_as_variable,
            drop_variables=drop_variables,
        )

    def open_groups_as_dict(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: Decode = True,
        band_as_variable: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        **decoders: Any,
    ) -> dict[str, xr.Dataset]:
        """Open all levels: ``/full`` and, by their numbers, ``/overview_0``, ....

        The root is empty: levels differ in size, so none can be the parent of another.

        Parameters
        ----------
        filename_or_obj, drop_variables, mask_and_scale, band_as_variable
            See `open_dataset`.
        storage_options
            See `open_dataset`.
        **decoders
            ``decode_times`` and so on, as for `open_dataset`.
        """
        unknown = set(decoders) - set(self.open_dataset_parameters)
        if unknown or "overview_level" in decoders:
            msg = f"unknown options of open_datatree: {sorted(decoders)}"
            raise TypeError(msg)
        ref = _opened(filename_or_obj, storage_options)
        groups = {"/": xr.Dataset()}
        for level in ref.raster().header.levels:
            name = f"/overview_{level - 1}" if level else "/full"
            groups[name] = _dataset(
                ref,
                level,
                {**DECODERS, **decoders, "mask_and_scale": mask_and_scale},
                band_as_variable=band_as_variable,
                drop_variables=drop_variables,
            )
        return groups

    def open_datatree(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str] | bytes | BinaryIO,
        **options: Any,
    ) -> Any:
        """Open all levels as a tree, see `open_groups_as_dict`."""
        groups = self.open_groups_as_dict(filename_or_obj, **options)
        tree = xr.DataTree.from_dict(groups)
        for path, ds in groups.items():
            tree[path].set_close(ds._close)  # noqa: SLF001
        return tree

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Say whether this looks like a FLAC raster; no network, no error."""
        try:
            return _looks_right(filename_or_obj)
        except Exception:  # noqa: BLE001  (xarray asks every engine about anything)
            return False


def _opened(
    filename_or_obj: Any, storage_options: Mapping[str, Any] | None
) -> RasterRef:
    from flac_xarray.lazy_array import RasterRef

    target = _target(filename_or_obj)
    return RasterRef.open(target, storage_options, meanwhile=_load_libraries)


def _load_libraries() -> None:
    """Import what a dataset needs beyond reading: a second, in a fresh process."""
    import rioxarray  # noqa: F401  (registers ``.rio`` on the dataset)

    from flac_xarray import (  # noqa: F401
        cf_layout,
        dask_tiles,
        raster_layout,
        tile_variable,
    )


def _dataset(
    ref: RasterRef,
    level: int,
    decoders: Mapping[str, Any],
    *,
    band_as_variable: bool,
    drop_variables: str | Iterable[str] | None,
) -> xr.Dataset:
    """Describe one level of an open file."""
    from flac_xarray.cf_layout import cf_dataset, is_cf
    from flac_xarray.raster_layout import raster_dataset
    from flac_xarray.tile_variable import with_tile_variables

    header = ref.raster().header
    if is_cf(header):
        make = partial(cf_dataset, ref, header, level, decoders)
    else:
        make = partial(
            raster_dataset,
            ref,
            header,
            level,
            mask_and_scale=decoders["mask_and_scale"],
            band_as_variable=band_as_variable,
        )
    ds = _made_of_header(make, ref)
    if drop_variables is not None:
        ds = ds.drop_vars(drop_variables, errors="ignore")
    ds = with_tile_variables(ds)
    # Else xarray puts what was asked for there, with credentials if it is a URL.
    ds.encoding.setdefault("source", ref.raster().name)
    ds.set_close(ref.close)
    return ds


def _made_of_header(make: Callable[[], xr.Dataset], ref: RasterRef) -> xr.Dataset:
    """Make the dataset; what xarray cannot do with the header is the file's fault."""
    try:
        return make()
    except (FlacRasterError, OSError):
        ref.close()
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        name = ref.raster().name
        ref.close()
        msg = f"{name}: its header makes no dataset: {type(error).__name__}: {error}"
        raise FormatError(msg) from error


def _target(filename_or_obj: Any) -> Any:
    """Undo what xarray does to names and bytes before it asks a backend."""
    if isinstance(filename_or_obj, memoryview):
        return bytes(filename_or_obj)
    if isinstance(filename_or_obj, str) and "://" not in filename_or_obj:
        return os.path.expanduser(filename_or_obj)  # noqa: PTH111  (may be chained)
    return filename_or_obj


def _level(header: Header, overview_level: int | None) -> int:
    level = 0 if overview_level is None else overview_level + 1
    if level not in header.levels or level < 0:
        n = len(header.levels) - 1
        msg = f"overview_level {overview_level}: the file has {n} overviews"
        raise ValueError(msg)
    return level


def _looks_right(target: Any) -> bool:
    if isinstance(target, (str, os.PathLike)):
        name = os.fspath(target)
        if "://" in name.removeprefix("file://") or "::" in name:
            path = name.split("?", maxsplit=1)[0].split("#", maxsplit=1)[0]
            return path.lower().endswith(EXTENSIONS)
        with open(name.removeprefix("file://"), "rb") as file:  # noqa: PTH123
            return _is_ours(file.read(SNIFF_NBYTES))
    if isinstance(target, (bytes, memoryview)):
        return _is_ours(bytes(target[:SNIFF_NBYTES]))
    at = target.tell()
    try:
        target.seek(0)
        return _is_ours(target.read(SNIFF_NBYTES))
    finally:
        target.seek(at)


def _is_ours(start: bytes) -> bool:
    """Whether bytes begin a container, of any version, or a georeferenced bare tile."""
    if start[:4] == b"fLaC":
        return b"GEOSPATIAL_" in start
    return start[4:5] == b"{" and (
        b'"format":"flacraster"' in start[:64]
        or b'"tiles"' in start
        or b'"frames"' in start
    )
