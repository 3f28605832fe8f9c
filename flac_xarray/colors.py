"""Colour tables in the header (docs/format.md, section 3.2).

Strategy: 65,536 entries as JSON would fill a megabyte and push the tile table out of
the first request, so a table is deflated and in base64; its size is checked before it
is inflated.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any, Final

from flac_xarray.errors import FormatError

__all__ = ["Color", "pack_colors", "unpack_colors"]

Color = tuple[int, int, int, int]

MAX_COLORS: Final = 1 << 16


def pack_colors(colors: Sequence[Sequence[int]]) -> str:
    """Give the text of a colour table.

    Parameters
    ----------
    colors
        Red, green, blue and alpha, 0 to 255, for each pixel value from 0 on.

    Examples
    --------
    >>> unpack_colors(pack_colors([(0, 0, 0, 255), (250, 10, 20, 255)]))
    [(0, 0, 0, 255), (250, 10, 20, 255)]
    """
    data = b"".join(bytes(color) for color in colors)
    return base64.b64encode(zlib.compress(data, 9)).decode()


def unpack_colors(text: Any) -> list[Color]:
    """Undo `pack_colors`.

    Raises
    ------
    FormatError
        The text is no colour table.
    """
    try:
        inflate = zlib.decompressobj()
        packed = base64.b64decode(text, validate=True)
        data = inflate.decompress(packed, 4 * MAX_COLORS + 1)
    except (TypeError, ValueError, zlib.error, binascii.Error) as error:
        msg = f"the colour table {text!r:.40} does not parse: {error}"
        raise FormatError(msg) from error
    if len(data) % 4 or len(data) > 4 * MAX_COLORS:
        msg = f"a colour table of {len(data)} bytes: expected 4 for each colour"
        raise FormatError(msg)
    found = zip(data[::4], data[1::4], data[2::4], data[3::4], strict=True)
    return list(found)
