"""Which overviews a file will have, and what each is made of.

Strategy: a level is made of the level before, as GDAL makes them, so every array of
every level has one source. What is void follows GDAL's order: a mask of the file, then
nodata, then an alpha band. All of it is worked out from the header, before any pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flac_xarray.errors import UnsupportedDataError
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.masking import Masking
from flac_xarray.resampling import LevelRule, check_method

__all__ = ["LevelSource", "OverviewPlan", "Overviews", "Resampling", "overview_factors"]

Overviews = str | Sequence[int] | None
"""``"auto"``, ``"none"``, or factors such as ``(2, 4, 8)``."""
Resampling = str | Mapping[str, str]
"""One of `resampling.METHODS`, for all arrays or by name."""

DEFAULT_METHOD: Final = "nearest"
FOR_CLASSES: Final = ("nearest", "mode")
"""Methods that make no new values."""
STATISTICS: Final = "STATISTICS_"
"""Tags that hold for level 0 only."""


@dataclass(frozen=True, slots=True)
class LevelSource:
    """What one array of an overview level is made of, by positions in the header."""

    position: int
    """The same array at the level before."""
    rule: LevelRule
    """How."""
    mask: int | None = None
    """The mask at the level before."""
    alpha: int | None = None
    """The band that says which pixels are void."""
    nodata: tuple[float | int | None, ...] = (None,)
    """What void pixels are: one for all, or one per band."""


@dataclass(frozen=True, slots=True)
class OverviewPlan:
    """A header with overview levels, and how they are made.

    Examples
    --------
    >>> info = ArrayInfo("a", "uint8", ("y", "x"), (700, 300), (256, 256))
    >>> plan = OverviewPlan.of(Header((info,)), "auto", "average")
    >>> [a.shape for a in plan.header.arrays], plan.sources[2].position
    ([(700, 300), (350, 150), (175, 75)], 1)
    """

    header: Header
    """Arrays of level 0 first, in their order, then those of each level."""
    sources: Mapping[int, LevelSource]
    """For each array of an overview level."""

    @classmethod
    def of(
        cls, header: Header, overviews: Overviews, resampling: Resampling
    ) -> OverviewPlan:
        """Plan the overviews of all arrays of a header.

        Parameters
        ----------
        header
            Without overviews.
        overviews
            ``"auto"``: halves until one tile covers the raster; or factors.
        resampling
            The method, for all arrays or by name (``"nearest"`` for others).

        Raises
        ------
        ValueError
            The factors do not ascend, or there is no such method; the header has
            overviews already.
        UnsupportedDataError
            The method is not defined for complex pixels, or for classes; there are
            too many factors.
        """
        factors = overview_factors(header, overviews)
        if factors and header.levels != (0,):
            msg = f"the header has overviews already: levels {header.levels}"
            raise ValueError(msg)
        _check_names(header, resampling)
        arrays = list(header.arrays)
        sources: dict[int, LevelSource] = {}
        before = dict(enumerate(arrays))
        for level, factor in enumerate(factors, 1):
            now: dict[int, ArrayInfo] = {}
            for position, info in before.items():
                base = next(
                    a
                    for a in header.arrays
                    if (a.name, a.role) == (info.name, info.role)
                )
                method = _method(resampling, info)
                made = _at_level(base, level, factor, method)
                at = len(arrays)
                arrays.append(made)
                now[at] = made
                sources[at] = _source(header, arrays, position, made, method)
            before = now
        return cls(replace(header, arrays=tuple(arrays)), sources)


def overview_factors(header: Header, overviews: Overviews) -> tuple[int, ...]:
    """Give the factors of the levels below full resolution.

    Raises
    ------
    ValueError
        They do not ascend from 2 on.
    UnsupportedDataError
        They are too many for the raster.
    """
    if overviews is None or overviews == "none":
        return ()
    if isinstance(overviews, str):
        if overviews != "auto":
            msg = f"overviews {overviews!r}: expected 'auto', 'none', or factors"
            raise ValueError(msg)
        return _halves(header.arrays)
    factors = tuple(int(f) for f in overviews)
    ascend = all(a < b for a, b in itertools.pairwise((1, *factors)))
    if not ascend or factors != tuple(overviews):
        msg = (
            f"overviews {list(overviews)}: expected factors that ascend, such as 2,4,8"
        )
        raise ValueError(msg)
    for info in header.arrays:
        sizes = [_size(info, f) for f in (1, *factors)]
        if 0 in sizes[0] or len(set(sizes)) < len(sizes):
            height, width = sizes[0]
            msg = (
                f"overviews {list(factors)}: too many for {height} rows and {width} "
                f"columns of array {info.name!r}"
            )
            raise UnsupportedDataError(msg, dtype=info.dtype)
    return factors


def _halves(arrays: Sequence[ArrayInfo]) -> tuple[int, ...]:
    factors: list[int] = []
    factor = 1
    while any(
        n > tile
        for info in arrays
        if 0 not in info.shape[-2:]
        for n, tile in zip(_size(info, factor), info.tile[-2:], strict=True)
    ):
        factor *= 2
        factors.append(factor)
    return tuple(factors)


def _size(info: ArrayInfo, factor: int) -> tuple[int, int]:
    height, width = info.shape[-2:]
    return -(-height // factor), -(-width // factor)


def _check_names(header: Header, resampling: Resampling) -> None:
    if isinstance(resampling, str):
        return
    names = {a.name for a in header.arrays}
    unknown = sorted(set(resampling) - names)
    if unknown:
        msg = f"resampling for {unknown}: the arrays are {sorted(names)}"
        raise ValueError(msg)


def _method(resampling: Resampling, info: ArrayInfo) -> str:
    method = (
        resampling
        if isinstance(resampling, str)
        else resampling.get(info.name, DEFAULT_METHOD)
    )
    check_method(method, info.dtype)
    if method not in FOR_CLASSES and any("colormap" in band for band in info.bands):
        msg = (
            f"array {info.name!r} has a colour table: its pixels are names, and "
            f"resampling {method!r} would add them up; expected nearest or mode"
        )
        raise UnsupportedDataError(msg, dtype=info.dtype)
    return method


def _at_level(info: ArrayInfo, level: int, factor: int, method: str) -> ArrayInfo:
    return replace(
        info,
        level=level,
        shape=(*info.shape[:-2], *_size(info, factor)),
        bands=tuple(_without_statistics(band) for band in info.bands),
        extra={**info.extra, "resampling": method},
    )


def _without_statistics(band: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(band)
    if "tags" in out:
        tags = {
            ns: {k: v for k, v in group.items() if not k.startswith(STATISTICS)}
            for ns, group in out["tags"].items()
        }
        out["tags"] = {ns: group for ns, group in tags.items() if group}
        if not out["tags"]:
            del out["tags"]
    return out


def _source(
    header: Header,
    arrays: Sequence[ArrayInfo],
    position: int,
    made: ArrayInfo,
    method: str,
) -> LevelSource:
    """Say what an array is made of, the level before being in `arrays` already."""
    info = arrays[position]
    plane = (info.shape[-2], info.shape[-1]), (made.shape[-2], made.shape[-1])
    rule = LevelRule(method, info.dtype, *plane)
    nodata = info.nodata
    if nodata == (None,) and "missing_value" in info.attrs:
        nodata = _number(info.attrs["missing_value"])
    if method == "nearest" or info.role == "mask":
        return LevelSource(position, rule, nodata=nodata)
    rules = Masking.of(replace(header, arrays=tuple(arrays)), position)
    return LevelSource(position, rule, rules.mask, rules.alpha, nodata)


def _number(value: Any) -> tuple[float | int | None, ...]:
    """Give the number of a CF attribute, which may be a list of one."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (value if is_number else None,)
