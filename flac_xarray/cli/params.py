"""Words of the command line as values: boxes, windows, bands, storage options.

Strategy: click parameter types, so that text that does not parse is a usage error that
names the option. What parses but lies outside a raster is the raster's error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flac_xarray.errors import WindowError
from flac_xarray.georef import Bbox
from flac_xarray.grid import Window

__all__ = ["BANDS", "BBOX", "OVERVIEWS", "WINDOW", "json_option", "storage_option"]

F = TypeVar("F", bound=Callable[..., Any])


def _numbers(text: str, kind: Callable[[str], Any], names: str) -> list[Any]:
    """Parse as many numbers as there are names.

    Raises
    ------
    ValueError
        Some are missing, or are no numbers.
    """
    parts = text.replace(",", " ").split()
    if len(parts) != names.count(",") + 1:
        msg = f"expected {names}, found {text!r}"
        raise ValueError(msg)
    try:
        return [kind(part) for part in parts]
    except ValueError as error:
        msg = f"expected {names}, found {text!r}"
        raise ValueError(msg) from error


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic since click 8.2 only
    _ParamType = click.ParamType


class _Text(_ParamType):
    """A parameter whose `parse` raises ValueError."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Parse text; hand on what is parsed already."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except (ValueError, WindowError) as error:
            self.fail(str(error), param, ctx)

    def parse(self, text: str) -> Any:
        """Turn text into a value."""
        raise NotImplementedError


class _Bbox(_Text):
    name = "xmin,ymin,xmax,ymax"

    def parse(self, text: str) -> Bbox:
        """Parse four finite numbers."""
        xmin, ymin, xmax, ymax = _numbers(text, float, self.name)
        if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
            msg = f"expected finite numbers, found {text!r}"
            raise ValueError(msg)
        if xmin > xmax or ymin > ymax:
            msg = f"expected xmin <= xmax and ymin <= ymax, found {text!r}"
            raise ValueError(msg)
        return xmin, ymin, xmax, ymax


class _Window(_Text):
    name = "col_off,row_off,width,height"

    def parse(self, text: str) -> Window:
        """Parse four integers, in GDAL's order."""
        col_off, row_off, width, height = _numbers(text, int, self.name)
        if width < 1 or height < 1:
            msg = f"expected a width and a height of 1 or more, found {text!r}"
            raise ValueError(msg)
        return Window(row_off, col_off, height, width)


class _Bands(_Text):
    name = "1,2,..."

    def parse(self, text: str) -> Sequence[int]:
        """Parse numbers from 1 on into positions from 0 on."""
        bands = _numbers(text, int, ",".join("n" * (text.count(",") + 1)))
        if min(bands) < 1:
            msg = f"expected numbers of bands, from 1 on, found {text!r}"
            raise ValueError(msg)
        return tuple(band - 1 for band in bands)


class _Overviews(_Text):
    name = "source|auto|none|2,4,..."

    def parse(self, text: str) -> str | tuple[int, ...]:
        """Parse a word, or factors."""
        if text in ("source", "auto", "none"):
            return text
        factors = _numbers(text, int, ",".join("n" * (text.count(",") + 1)))
        if factors != sorted({f for f in factors if f > 1}):
            msg = f"expected factors from 2 on that ascend, found {text!r}"
            raise ValueError(msg)
        return tuple(factors)


class _KeyValue(_Text):
    name = "KEY=VALUE"

    def parse(self, text: str) -> tuple[str, Any]:
        """Parse an option of fsspec; true, false and whole numbers are such."""
        key, equals, value = text.partition("=")
        if not (key and equals):
            # The text is not repeated: it may hold a password.
            msg = "expected KEY=VALUE"
            raise ValueError(msg)
        if value.lower() in ("true", "false"):
            return key, value.lower() == "true"
        return key, int(value) if value.isdecimal() else value


BBOX = _Bbox()
"""xmin, ymin, xmax, ymax in the CRS."""
WINDOW = _Window()
"""A `Window`, written as col_off, row_off, width, height."""
BANDS = _Bands()
"""Positions from 0, written as numbers from 1."""
OVERVIEWS = _Overviews()
"""``"source"``, ``"auto"``, ``"none"``, or a tuple of factors."""


def storage_option(command: F) -> F:
    """Add ``--storage-option``; the command gets a dict `storage_options`."""
    return click.option(
        "--storage-option",
        "storage_options",
        type=_KeyValue(),
        multiple=True,
        callback=lambda _ctx, _param, pairs: dict(pairs),
        help="An option of the URL's fsspec file system, e.g. anon=true; repeatable.",
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``; the command gets `as_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON instead of a table."
    )(command)
