"""What a file says about itself: arrays and header, as values and as JSON.

Strategy: frozen values that check themselves when they are made, so a `Header` that
exists is a consistent one (docs/format.md, section 3). Bytes and offsets are the
container's business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flac_xarray.coords import MAX_COORD_NBYTES, Coord
from flac_xarray.dtypes import (
    itemsize,
    nodata_from_json,
    nodata_to_json,
    numpy_dtype,
    pixel_bytes,
)
from flac_xarray.errors import ArrayNotFoundError, FormatError
from flac_xarray.georef import Georef
from flac_xarray.grid import TileGrid

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "MAX_TILE_NBYTES",
    "ArrayInfo",
    "Header",
    "pack_json",
    "unpack_json",
]

FORMAT_NAME: Final = "flacraster"
FORMAT_VERSION: Final = "1.0"
MAX_DIMS: Final = 64
"""Dims of an array, as many as NumPy has."""
MAX_TILE_NBYTES: Final = 1 << 30
"""Largest tile, in bytes of pixels, that is read or written."""

ROLES: Final = ("data", "mask")


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """One array of the file: a variable at one overview level (docs/format.md, 3.2).

    Examples
    --------
    >>> info = ArrayInfo("band_data", "uint8", ("band", "y", "x"), (3, 5, 7), (1, 4, 4))
    >>> info.grid.counts
    (3, 2, 2)
    """

    name: str
    """Variable name."""
    dtype: str
    """Format dtype name, see `flac_xarray.dtypes`."""
    dims: tuple[str, ...]
    """Dimension names, the last two being ``"y", "x"``."""
    shape: tuple[int, ...]
    """Pixels along each dim."""
    tile: tuple[int, ...]
    """Pixels of a whole tile along each dim."""
    level: int = 0
    """Overview level, 0 being full resolution."""
    role: str = "data"
    """``"data"``, or ``"mask"``: 0 where the dataset is void, 255 where it is valid."""
    nodata: tuple[float | int | None, ...] = (None,)
    """Nodata value: one for all, or one per band."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """JSON attributes of the variable."""
    bands: tuple[Mapping[str, Any], ...] = ()
    """Per band: description, scale, offset, units, colorinterp, colormap, tags."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys this version does not know, kept as they are."""

    def __post_init__(self) -> None:
        if len(self.dims) != len(self.shape) or len(set(self.dims)) != len(self.dims):
            msg = (
                f"array {self.name!r}: dims {self.dims} do not name shape {self.shape}"
            )
            raise FormatError(msg)
        if self.dims[-2:] != ("y", "x"):
            msg = f"array {self.name!r}: dims {self.dims} must end in ('y', 'x')"
            raise FormatError(msg)
        if self.role not in ROLES or self.level < 0:
            msg = (
                f"array {self.name!r}: unknown role {self.role!r} or level {self.level}"
            )
            raise FormatError(msg)
        if len(self.dims) > MAX_DIMS:
            msg = f"array {self.name!r}: {len(self.dims)} dims, above {MAX_DIMS}"
            raise FormatError(msg)
        numpy_dtype(self.dtype)
        if self.tile_nbytes > MAX_TILE_NBYTES:
            msg = (
                f"array {self.name!r}: tile {self.tile} of {self.dtype} is "
                f"{self.tile_nbytes} bytes, above the limit of {MAX_TILE_NBYTES}"
            )
            raise FormatError(msg)
        if len(self.bands) not in (0, self.n_bands):
            msg = (
                f"array {self.name!r}: {len(self.bands)} entries in bands for "
                f"{self.n_bands} bands"
            )
            raise FormatError(msg)
        for band in self.bands:
            _check_band(band, self.name)
        if len(self.nodata) not in (1, self.n_bands):
            msg = (
                f"array {self.name!r}: {len(self.nodata)} nodata values for "
                f"{self.n_bands} bands"
            )
            raise FormatError(msg)

    @property
    def grid(self) -> TileGrid:
        """The tiling."""
        return TileGrid(self.shape, self.tile)

    @property
    def sizes(self) -> dict[str, int]:
        """Pixels along each dim, by name."""
        return dict(zip(self.dims, self.shape, strict=True))

    @property
    def n_bands(self) -> int:
        """Length of the ``band`` dim, 1 without one."""
        return self.sizes.get("band", 1)

    @property
    def tile_nbytes(self) -> int:
        """Bytes of pixels of the largest tile."""
        tile = self.grid.tile
        return math.prod(
            max(1, min(n, t)) for n, t in zip(self.shape, tile, strict=True)
        ) * itemsize(self.dtype)

    def nodata_pixel(self, index: Sequence[int]) -> bytes | None:
        """Bit pattern of nodata in a tile; None without or when its bands differ."""
        if len(self.nodata) == 1:
            return pixel_bytes(self.nodata[0], self.dtype)
        along = self.grid.slices(index)[self.dims.index("band")]
        values = {pixel_bytes(v, self.dtype) for v in self.nodata[along]}
        return values.pop() if len(values) == 1 else None

    def to_json(self, table: int) -> dict[str, Any]:
        """Give the JSON object of this array, its table lying at byte `table`."""
        nodata = [nodata_to_json(v, self.name) for v in self.nodata]
        out: dict[str, Any] = {
            "name": self.name,
            "dtype": self.dtype,
            "dims": list(self.dims),
            "shape": list(self.shape),
            "tile": list(self.tile),
            "table": table,
        }
        if self.level:
            out["level"] = self.level
        if self.role != "data":
            out["role"] = self.role
        if nodata != [None]:
            out["nodata"] = nodata[0] if len(nodata) == 1 else nodata
        if self.attrs:
            out["attrs"] = dict(self.attrs)
        if any(self.bands):
            out["bands"] = [dict(b) for b in self.bands]
        return out | dict(self.extra)

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> ArrayInfo:
        """Undo `to_json` (the table's offset aside)."""
        rest = dict(obj)
        nodata = rest.pop("nodata", None)
        values = nodata if isinstance(nodata, list) else [nodata]
        bands = rest.pop("bands", [])
        rest.pop("table")
        return cls(
            name=_typed(rest.pop("name"), str, "name"),
            dtype=_typed(rest.pop("dtype"), str, "dtype"),
            dims=tuple(_typed(d, str, "dims") for d in rest.pop("dims")),
            shape=tuple(_typed(n, int, "shape") for n in rest.pop("shape")),
            tile=tuple(_typed(n, int, "tile") for n in rest.pop("tile")),
            level=_typed(rest.pop("level", 0), int, "level"),
            role=_typed(rest.pop("role", "data"), str, "role"),
            nodata=tuple(nodata_from_json(v) for v in values),
            attrs=_typed(rest.pop("attrs", {}), dict, "attrs"),
            bands=tuple(_typed(b, dict, "bands") for b in bands),
            extra=rest,
        )


@dataclass(frozen=True, slots=True)
class Header:
    """Everything a file says about itself before its tiles (docs/format.md, 3)."""

    arrays: tuple[ArrayInfo, ...]
    """The arrays, in the order of their tables."""
    georef: Georef = field(default_factory=Georef)
    """Where the pixels lie on the Earth."""
    coords: Mapping[str, Coord] = field(default_factory=dict)
    """Coordinates of the dims, by name."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """JSON attributes of the dataset."""
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """GDAL metadata by namespace, ``""`` being the default one."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys this version does not know, kept as they are."""

    def __post_init__(self) -> None:
        if not self.arrays:
            msg = "the header holds no array: expected at least one"
            raise FormatError(msg)
        keys = [(a.name, a.role, a.level) for a in self.arrays]
        if len(set(keys)) != len(keys):
            msg = f"the header holds an array twice: {keys}"
            raise FormatError(msg)
        if not any(a.role == "data" and a.level == 0 for a in self.arrays):
            msg = f"the header holds no data at level 0, only {keys}"
            raise FormatError(msg)
        sizes: dict[tuple[str, int], int] = {}
        for array in self.arrays:
            for dim, n in zip(array.dims, array.shape, strict=True):
                if sizes.setdefault((dim, array.level), n) != n:
                    msg = (
                        f"array {array.name!r}: dim {dim!r} has {n} pixels here and "
                        f"{sizes[dim, array.level]} in another array"
                    )
                    raise FormatError(msg)

    def find(self, name: str | None = None, level: int = 0, role: str = "data") -> int:
        """Position in `arrays` of one array; the first of its role without a name.

        Raises
        ------
        ArrayNotFoundError
            There is none; it names those there are.
        """
        for i, array in enumerate(self.arrays):
            if (
                array.role == role
                and array.level == level
                and name in (None, array.name)
            ):
                return i
        have = sorted({(a.name, a.level) for a in self.arrays if a.role == role})
        wanted = "" if name is None else f" {name!r}"
        texts = [f"{n!r}" + (f" at level {at}" if at else "") for n, at in have]
        raise ArrayNotFoundError(
            f"no array{wanted} at level {level}: the file has "
            f"{', '.join(texts) or 'none of that role'}",
            name=name,
            level=level,
            arrays=tuple(have),
        )

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the data arrays, ascending."""
        return tuple(sorted({a.level for a in self.arrays if a.role == "data"}))

    def level_georef(self, info: ArrayInfo) -> Georef:
        """Georeference of one array: that of level 0, seen through its pixels."""
        if not info.level:
            return self.georef
        base = self.arrays[self.find()]
        return self.georef.scaled(
            base.shape[-1] / info.shape[-1], base.shape[-2] / info.shape[-2]
        )


def pack_json(header: Header, tables: Sequence[int]) -> bytes:
    """Give the JSON of a header whose tables lie at these offsets, unpadded."""
    out: dict[str, Any] = {"format": FORMAT_NAME, "version": FORMAT_VERSION}
    out |= header.georef.to_json()
    pairs = zip(header.arrays, tables, strict=True)
    out["arrays"] = [array.to_json(table) for array, table in pairs]
    if header.coords:
        out["coords"] = {name: c.to_json() for name, c in header.coords.items()}
    if header.attrs:
        out["attrs"] = dict(header.attrs)
    if header.tags:
        out["tags"] = {ns: dict(tags) for ns, tags in header.tags.items()}
    out |= dict(header.extra)
    text = json.dumps(out, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def unpack_json(text: bytes) -> tuple[Header, tuple[int, ...]]:
    """Read the JSON of a header.

    Returns
    -------
    Header, tuple of int
        The header, and the offset that each array gives for its table.

    Raises
    ------
    FormatError
        The text is not the JSON of a header.
    """
    try:
        obj = json.loads(text, parse_constant=_no_constant)
        for key in ("format", "version"):
            obj.pop(key)
        objects = obj.pop("arrays")
        tables = tuple(_typed(o["table"], int, "table") for o in objects)
        arrays = tuple(ArrayInfo.from_json(o) for o in objects)
        coords = _coords_from_json(obj.pop("coords", {}))
        tags = obj.pop("tags", {})
        _check_tags(tags)
        _typed(obj.get("gdal", {}), dict, "gdal")
        header = Header(
            arrays=arrays,
            georef=Georef.pop_json(obj),
            coords=coords,
            attrs=_typed(obj.pop("attrs", {}), dict, "attrs"),
            tags=tags,
            extra=obj,
        )
    except FormatError:
        raise
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        msg = f"the header does not parse: {type(error).__name__}: {error}"
        raise FormatError(msg) from error
    return header, tables


def _coords_from_json(objects: Mapping[str, Any]) -> dict[str, Coord]:
    """Read all coordinates, as long as they are small together."""
    coords: dict[str, Coord] = {}
    left = MAX_COORD_NBYTES
    for name, obj in objects.items():
        coords[name] = Coord.from_json(obj, left)
        left -= coords[name].values.nbytes
    return coords


def _no_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _check_band(band: Mapping[str, Any], name: str) -> None:
    """Refuse members of another type; those not known may be anything."""
    try:
        for key in ("description", "units", "colorinterp", "colormap"):
            _typed(band.get(key, ""), str, key)
        for key in ("scale", "offset"):
            _check_number(band.get(key, 0), key)
        _check_tags(band.get("tags", {}))
    except (FormatError, AttributeError) as error:
        msg = f"a band of array {name!r} does not parse: {error}"
        raise FormatError(msg) from error


def _check_number(value: Any, key: str) -> None:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"header key {key!r}: expected a number, found {value!r:.80}"
        raise FormatError(msg) from error


def _check_tags(tags: Mapping[str, Mapping[str, str]]) -> None:
    for group in tags.values():
        for text in group.values():
            _typed(text, str, "tags")


def _typed(value: Any, kind: type, key: str) -> Any:
    """Refuse a JSON value of another type (bool is not an int here)."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        msg = f"header key {key!r}: expected {kind.__name__}, found {value!r:.80}"
        raise FormatError(msg)
    return value
