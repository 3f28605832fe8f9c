"""Which transforms a tile uses, as a value and as text (docs/format.md, section 4.3).

Strategy: the order of transforms is fixed, so a plan is a set of choices; its text goes
into the tile's comments. A name this reader does not know is refused, never skipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from flac_xarray.errors import FormatError
from flac_xarray.transforms.predict import PREDICTORS
from flac_xarray.transforms.scaling import Scale

__all__ = ["MAX_PLANES", "Plan"]

_MAX_PLANES_LISTED: Final = 64
MAX_PLANES: Final = 1 << 14
"""Planes that may refer to each other: a few bytes must not ask for megabytes."""
VALUE_DTYPES: Final = ("u1", "u2", "u4", "i1", "i2", "i4")


@dataclass(frozen=True, slots=True)
class Plan:
    """The transforms of one tile, in the order in which encoding applies them.

    Examples
    --------
    >>> plan = Plan(order=True, palette="u2", predictor="lift")
    >>> plan.pack()
    'order palette:u2 lift'
    >>> Plan.unpack("order palette:u2 lift") == plan
    True
    """

    fill: bytes | None = None
    """Bits of one pixel: all pixels are equal to it, and nothing else applies."""
    void: bytes | None = None
    """Bits of one part of a pixel: where they are is side data."""
    order: bool = False
    """Float bits are mapped to integers that sort like the floats."""
    scale: Scale | None = None
    """Values are integers, of which floats are multiples."""
    palette: str | None = None
    """Values are ranks of this dtype in a sorted list, which is side data."""
    offset: tuple[str, int] | None = None
    """Values are of this dtype; adding the number gives the ones before."""
    bands: tuple[int, ...] = ()
    """For each plane the plane that was subtracted from it, or -1."""
    predictor: str = "none"
    """How rows are predicted from rows."""
    across: bool = False
    """Each residual of a row had the one to its left subtracted."""
    runs: str | None = None
    """Residuals are those of runs, whose lengths are side data: ``apart`` from the
    residuals, or in ``pairs`` with them."""
    sparse: bool = False
    """Only residuals other than 0 are stored; where they are is side data."""
    classes: int | None = None
    """Values of that many bits are coded by their neighbours, as side data."""
    pixel: bool = False
    """Planes are channels, not one after another in one channel."""
    packed: bool = False
    """Residuals are side data; the samples say nothing."""

    def pack(self) -> str:
        """Give the text."""
        names = []
        for field in fields(self):
            value, name = getattr(self, field.name), field.name
            if field.name == "predictor":
                if value != "none":
                    names.append(value)
            elif value is True:
                names.append(name)
            elif value != field.default:
                names.append(f"{name}:{_PACK.get(name, _pack_list)(value)}")
        return " ".join(names)

    @classmethod
    def unpack(cls, text: str) -> Plan:
        """Undo `pack`.

        Raises
        ------
        FormatError
            A transform is unknown or its parameters are out of range.
        """
        plan, last = cls(), -1
        order = [field.name for field in fields(cls)]
        for token in text.split():
            name, _, value = token.partition(":")
            field = "predictor" if name in PREDICTORS else name
            if field not in order or order.index(field) <= last:
                raise FormatError(f"transform {token!r} of {text!r} is unknown here")
            last = order.index(field)
            try:
                plan = replace(plan, **{field: _UNPACK[field](value or name)})
            except (ValueError, OverflowError, IndexError) as error:
                raise FormatError(f"transform {token!r}: {error}") from error
        return plan


def _pack_list(value: Any) -> str:
    return str(value) if isinstance(value, str) else ",".join(map(str, value))


def _pack_bands(bands: tuple[int, ...]) -> str:
    if bands == tuple(range(-1, len(bands) - 1)):
        return f"previous,{len(bands)}"
    return ",".join("-" if band < 0 else str(band) for band in bands)


def _unpack_bands(text: str) -> tuple[int, ...]:
    """Parse, and check that references from plane to plane come to an end."""
    first, *rest = text.split(",")
    if first == "previous":
        (count,) = map(_natural, rest)
        if count > MAX_PLANES:
            raise ValueError(f"more than {MAX_PLANES} planes")
        return tuple(range(-1, count - 1))
    bands = tuple(-1 if band == "-" else _natural(band) for band in text.split(","))
    if len(bands) > _MAX_PLANES_LISTED:
        raise ValueError(f"more than {_MAX_PLANES_LISTED} planes")
    for start in range(len(bands)):
        band, steps = start, 0
        while band >= 0:
            steps += 1
            if steps > len(bands) or band >= len(bands):
                raise ValueError("planes refer to each other in a circle")
            band = bands[band]
    return bands


def _unpack_dtype(text: str) -> str:
    if text not in VALUE_DTYPES:
        raise ValueError(f"expected one of {VALUE_DTYPES}")
    return text


def _unpack_offset(text: str) -> tuple[str, int]:
    dtype, number = text.split(",")
    if not re.fullmatch(r"-?\d{1,20}", number):
        raise ValueError("expected an integer")
    return _unpack_dtype(dtype), int(number)


def _pack_scale(scale: Scale) -> str:
    sign = "/" if scale.is_divisor else "*"
    return f"{scale.dtype},{sign}{scale.step!r}"


def _unpack_scale(text: str) -> Scale:
    dtype, number = text.split(",")
    step = float(number[1:])
    if number[0] not in "*/" or not 0 < step < math.inf:
        raise ValueError("expected a dtype, * or /, and a positive number")
    return Scale(_unpack_dtype(dtype), is_divisor=number[0] == "/", step=step)


def _unpack_runs(text: str) -> str:
    if text not in ("apart", "pairs"):
        raise ValueError("expected apart or pairs")
    return text


def _unpack_bits(text: str) -> int:
    if text not in map(str, range(1, 9)):
        raise ValueError("expected 1 to 8")
    return int(text)


def _unpack_flag(text: str) -> bool:
    if text not in ("order", "across", "sparse", "pixel", "packed"):
        raise ValueError("takes no parameter")
    return True


def _unpack_predictor(text: str) -> str:
    if text not in PREDICTORS:
        raise ValueError("takes no parameter")
    return text


def _natural(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{text!r} is no number")
    return int(text)


_PACK: Final[dict[str, Callable[[Any], str]]] = {
    "fill": bytes.hex,
    "void": bytes.hex,
    "scale": _pack_scale,
    "bands": _pack_bands,
    "classes": str,
}
_UNPACK: Final[dict[str, Callable[[str], Any]]] = {
    "fill": bytes.fromhex,
    "void": bytes.fromhex,
    "order": _unpack_flag,
    "scale": _unpack_scale,
    "palette": _unpack_dtype,
    "offset": _unpack_offset,
    "bands": _unpack_bands,
    "predictor": _unpack_predictor,
    "across": _unpack_flag,
    "runs": _unpack_runs,
    "sparse": _unpack_flag,
    "classes": _unpack_bits,
    "pixel": _unpack_flag,
    "packed": _unpack_flag,
}
