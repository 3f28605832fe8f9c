"""Headers of several files to the header of one: what agrees, what is put together.

Strategy: tiles are copied as they are, so whatever gives their bytes a meaning must be
the same in every file: dtype, tiles, nodata, scales, units, CRS. What differs is
refused by name. What only describes (titles, histories) is the first file's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flac_xarray.cf_layout import from_json_attrs, to_json_attrs
from flac_xarray.coords import Coord
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.georef import Affine, Georef
from flac_xarray.grid import TileGrid
from flac_xarray.header import ArrayInfo, Header

__all__ = ["Joining", "check_alike", "join_along", "join_variables"]

MEANING: Final = (
    *("scale_factor", "add_offset", "missing_value", "_Unsigned", "dtype"),
    *("units", "calendar"),
)
"""Attributes that say what pixels mean."""
PLANE: Final = ("y", "x")
SHIFT: Final = 1e-6
"""Pixels by which neighbouring rasters may miss each other."""


@dataclass(frozen=True, slots=True)
class Joining:
    """The header of the file, and where the arrays of each part go in it."""

    header: Header
    """Of the file that is made."""
    places: tuple[tuple[tuple[int, tuple[int, ...]] | None, ...], ...]
    """By part and array: position in the header and first tile along each dim; None
    for an array whose tiles an earlier part gives."""

    def numbers(self, part: int, array: int, grid: TileGrid) -> NDArray[np.int64]:
        """Give the new numbers of all tiles of one array of a part."""
        place = self.places[part][array]
        assert place is not None  # noqa: S101  (the caller skips those)
        position, first = place
        index = np.unravel_index(np.arange(grid.n_tiles), grid.counts)
        moved = [i + o for i, o in zip(index, first, strict=True)]
        counts = self.header.arrays[position].grid.counts
        return np.asarray(np.ravel_multi_index(moved, counts), np.int64)


def join_variables(headers: Sequence[Header], names: Sequence[str]) -> Joining:
    """Join files that hold different variables over the same pixels.

    Raises
    ------
    UnsupportedDataError
        They hold a variable twice, or do not lie on the same pixels.
    """
    arrays: list[ArrayInfo] = []
    places = []
    for header, name in zip(headers, names, strict=True):
        _same_frame(headers[0], header, name)
        if header.georef != headers[0].georef:
            _refuse(name, "lies elsewhere", headers[0].georef, header.georef)
        for info in header.arrays:
            if _key(info) in map(_key, arrays):
                msg = (
                    f"{name}: array {info.name!r} is in a file before: name the dim "
                    "along which they are to be joined, dim=..."
                )
                raise UnsupportedDataError(msg)
        places.append(
            tuple(
                (len(arrays) + k, (0,) * len(info.shape))
                for k, info in enumerate(header.arrays)
            )
        )
        arrays += header.arrays
    coords: dict[str, Coord] = {}
    for header, name in zip(headers, names, strict=True):
        for key, coord in header.coords.items():
            if not _same_values(coords.setdefault(key, coord), coord):
                _refuse(name, f"coordinate {key!r}", coords[key].values, coord.values)
    return Joining(_header(headers, arrays, coords), tuple(places))


def join_along(headers: Sequence[Header], names: Sequence[str], dim: str) -> Joining:
    """Join files one behind the other along a dim that they have.

    Parameters
    ----------
    headers
        Of the files, in order.
    names
        What they are called in messages.
    dim
        As it is called in the file: rows and columns are y and x there.

    Raises
    ------
    UnsupportedDataError
        They do not fit together, or a tile would have to be cut.
    """
    first = headers[0]
    # Levels of neighbours do not make a level of the whole: their edges are rounded.
    infos = [a for a in first.arrays if not (a.level and dim in PLANE)]
    if not any(dim in info.dims for info in infos):
        have = sorted({d for info in infos for d in info.dims})
        msg = (
            f"{names[0]}: no array has dim {dim!r}, they have {have}: give it one "
            f"before it is written, as .expand_dims({dim!r}) does"
        )
        raise UnsupportedDataError(msg)
    at = {_key(info): k for k, info in enumerate(infos)}
    lengths = [0] * len(infos)
    joined = list(infos)
    places: list[tuple[tuple[int, tuple[int, ...]] | None, ...]] = []
    for part, (header, name) in enumerate(zip(headers, names, strict=True)):
        _same_frame(first, header, name)
        _check_keys(header, infos, name, dim)
        row: list[tuple[int, tuple[int, ...]] | None] = []
        for info in header.arrays:
            k = at.get(_key(info))
            if k is None or (part and dim not in info.dims):
                row.append(None)
                continue
            check_alike(joined[k], info, name, dim)
            offset = [0] * len(info.shape)
            if dim in info.dims:
                axis = info.dims.index(dim)
                offset[axis] = _next_tile(lengths[k], info, axis, name)
                lengths[k] += info.shape[axis]
                joined[k] = _grown(joined[k], info, axis, lengths[k], part)
            row.append((k, tuple(offset)))
        places.append(tuple(row))
    _check_georefs(headers, names, dim)
    coords = _join_coords(headers, names, dim)
    return Joining(_header(headers, joined, coords), tuple(places))


def _key(info: ArrayInfo) -> tuple[str, str, int]:
    return info.name, info.role, info.level


def _refuse(name: str, what: str, expected: Any, found: Any) -> None:
    msg = (
        f"{name} cannot be joined: {what}: expected {expected!r:.90}, as in the files "
        f"before it, found {found!r:.90}"
    )
    raise UnsupportedDataError(msg)


def _same_frame(first: Header, header: Header, name: str) -> None:
    for key in ("conventions", "plane"):
        if header.extra.get(key) != first.extra.get(key):
            _refuse(name, key, first.extra.get(key), header.extra.get(key))


def _check_keys(
    header: Header, infos: Sequence[ArrayInfo], name: str, dim: str
) -> None:
    found = {_key(a) for a in header.arrays if not (a.level and dim in PLANE)}
    needed = {_key(a) for a in infos if dim in a.dims}
    if not needed <= found <= {_key(a) for a in infos}:
        _refuse(name, "arrays (name, role, level)", sorted(needed), sorted(found))


def check_alike(a: ArrayInfo, b: ArrayInfo, name: str, dim: str | None) -> None:
    """Refuse an array whose tiles would not mean the same in another's place.

    Parameters
    ----------
    a, b
        The array that is there, and that whose tiles are to be put with them.
    name
        Of the latter, in messages.
    dim
        Along which their sizes may differ; None for all.
    """
    same: list[tuple[str, Any, Any]] = [
        (key, getattr(a, key), getattr(b, key)) for key in ("dtype", "dims", "tile")
    ]
    if dim != "band":
        same.append(("nodata", _text(a.nodata), _text(b.nodata)))
        for key in ("scale", "offset", "units"):
            of = [[band.get(key) for band in info.bands] for info in (a, b)]
            same.append((f"{key} of bands", of[0], of[1]))
    same += [
        (key, a.attrs.get(key), b.attrs.get(key))
        for key in MEANING
        if key in b.attrs or key not in ("units", "calendar")
    ]
    for other, n, m in zip(a.dims, a.shape, b.shape, strict=False):
        if dim is not None and other != dim:
            same.append((f"size of {other!r}", n, m))
    for key, x, y in same:
        if x != y:
            _refuse(name, f"array {b.name!r}: {key}", x, y)


def _text(nodata: Sequence[Any]) -> list[str]:
    return [repr(v) for v in nodata]  # NaN is itself here


def _next_tile(length: int, info: ArrayInfo, axis: int, name: str) -> int:
    tile = info.tile[axis]
    if length % tile:
        msg = (
            f"{name} cannot be joined: array {info.name!r} has {length} pixels along "
            f"{info.dims[axis]!r} before it, which are no whole tiles of {tile}: its "
            "tiles would have to be cut, and decoded for it"
        )
        raise UnsupportedDataError(msg)
    return length // tile


def _grown(
    info: ArrayInfo, more: ArrayInfo, axis: int, length: int, part: int
) -> ArrayInfo:
    shape = (*info.shape[:axis], length, *info.shape[axis + 1 :])
    if info.dims[axis] != "band" or not part:
        return replace(info, shape=shape)
    nodata = (*_each(info.nodata, info.n_bands), *_each(more.nodata, more.n_bands))
    if len(set(_text(nodata))) == 1:
        nodata = nodata[:1]
    bands: tuple[Any, ...] = ()
    if info.bands or more.bands:
        bands = (
            *(info.bands or ({},) * info.n_bands),
            *(more.bands or ({},) * more.n_bands),
        )
    return replace(info, shape=shape, nodata=nodata, bands=bands)


def _each(nodata: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    return nodata if len(nodata) == n else nodata * n


def _check_georefs(headers: Sequence[Header], names: Sequence[str], dim: str) -> None:
    first = headers[0].georef
    pixels = 0
    for header, name in zip(headers, names, strict=True):
        georef, expected = header.georef, first
        if dim in PLANE and first.transform is not None:
            expected = replace(first, transform=_shifted(first, dim, pixels))
        if dim in PLANE and (first.gcps or first.rpcs) and len(headers) > 1:
            _refuse(name, "ground control points", "none", "some")
        if not _same_place(expected, georef):
            _refuse(name, "place (CRS, transform)", expected, georef)
        axis = header.arrays[0].dims.index(dim) if dim in PLANE else 0
        pixels += header.arrays[0].shape[axis]


def _shifted(georef: Georef, dim: str, pixels: int) -> Affine:
    a, b, c, d, e, f = georef.transform or (1, 0, 0, 0, 1, 0)
    if dim == "x":
        return a, b, c + a * pixels, d, e, f + d * pixels
    return a, b, c + b * pixels, d, e, f + e * pixels


def _same_place(a: Georef, b: Georef) -> bool:
    if (a.transform is None) != (b.transform is None):
        return False
    if replace(a, transform=None) != replace(b, transform=None):
        return False
    if a.transform is None or b.transform is None:
        return True
    pixel = max(map(abs, (a.transform[k] for k in (0, 1, 3, 4))))
    return all(
        math.isclose(x, y, rel_tol=1e-12, abs_tol=pixel * SHIFT)
        for x, y in zip(a.transform, b.transform, strict=True)
    )


def _same_values(a: Coord, b: Coord) -> bool:
    x, y = np.asarray(a.values), np.asarray(b.values)
    if a.dims != b.dims or x.shape != y.shape:
        return False
    return bool(np.array_equal(x, y, equal_nan=x.dtype.kind == y.dtype.kind == "f"))


def _join_coords(
    headers: Sequence[Header], names: Sequence[str], dim: str
) -> dict[str, Coord]:
    sizes = [
        next(a.shape[a.dims.index(dim)] for a in h.arrays if dim in a.dims)
        for h in headers
    ]
    keys = list(dict.fromkeys(key for header in headers for key in header.coords))
    out = {}
    for key in keys:
        known = [h.coords[key] for h in headers if key in h.coords]
        along = any(dim in part.dims for part in known)
        parts = []
        for header, name in zip(headers, names, strict=True):
            if along and key not in header.coords:
                _refuse(name, "coordinates", key, sorted(header.coords))
            parts.append(header.coords.get(key, known[0]))
        same = all(
            _same_values(parts[0], p) and _meaning(parts[0]) == _meaning(p)
            for p in parts
        )
        if same and not along:
            out[key] = parts[0]
            continue
        for k, part in enumerate(parts):
            if dim in part.dims:
                continue
            if part.values.ndim:
                _refuse(names[k], f"values of {key!r}", parts[0].values, part.values)
            # One value a file becomes one value a step, as in xarray's concat.
            values = np.broadcast_to(part.values, (sizes[k],))
            parts[k] = Coord((dim,), values, part.attrs, part.encoding)
        out[key] = _concatenated(key, parts, dim, names)
    return out


def _meaning(coord: Coord) -> dict[str, Any]:
    return {k: coord.attrs[k] for k in MEANING if k in coord.attrs}


def _concatenated(
    key: str, parts: Sequence[Coord], dim: str, names: Sequence[str]
) -> Coord:
    first = parts[0]
    for part, name in zip(parts, names, strict=True):
        if part.dims != first.dims:
            _refuse(name, f"dims of {key!r}", first.dims, part.dims)
    axis = first.dims.index(dim)
    if all(_meaning(part) == _meaning(first) for part in parts):
        values = np.concatenate([part.values for part in parts], axis)
        return Coord(first.dims, values, first.attrs, first.encoding)
    # Each file counts its times from a day of its own: decoded, and counted anew.
    decoded = [_decoded(key, part) for part in parts]
    for part, variable, name in zip(parts, decoded, names, strict=True):
        if variable.dtype.kind not in "mM" and variable.dtype != decoded[0].dtype:
            _refuse(name, f"units of {key!r}", _meaning(first), _meaning(part))
        if variable.dtype.kind not in "mMO":
            _refuse(name, f"units of {key!r}", _meaning(first), _meaning(part))
    whole = xr.Variable.concat(decoded, dim)  # type: ignore[no-untyped-call]
    whole.encoding = decoded[0].encoding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # finer units where the first's do not do
        encoded = xr.conventions.encode_cf_variable(whole, name=key)
    attrs = to_json_attrs(encoded.attrs, f"coordinate {key!r}")
    return Coord(first.dims, np.asarray(encoded.values), attrs, first.encoding)


def _decoded(key: str, coord: Coord) -> xr.Variable:
    raw = xr.Variable(coord.dims, coord.values, from_json_attrs(coord.attrs))
    return xr.conventions.decode_cf_variable(key, raw, decode_timedelta=True).load()


def _header(
    headers: Sequence[Header], arrays: Sequence[ArrayInfo], coords: dict[str, Coord]
) -> Header:
    extra = dict(headers[0].extra)
    if "coordinates" in extra:
        every = [name for h in headers for name in h.extra.get("coordinates", ())]
        extra["coordinates"] = list(dict.fromkeys(every))
    return replace(headers[0], arrays=tuple(arrays), coords=coords, extra=extra)
