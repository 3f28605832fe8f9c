"""Maps of classes, coded by their neighbours, as side data (docs/format.md, 4.10).

Strategy: the coder is `_classes`, a C extension. Here are its sizes and its errors: the
bytes are one stored piece, and whatever they are they decode to some map, so only a
wrong size can be found here; checksums are the container's business.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flac_xarray import _classes
from flac_xarray.errors import CorruptTileError
from flac_xarray.transforms.side import SideReader, store_piece

__all__ = ["class_bits", "pack_classes", "take_classes"]

Ints = NDArray[np.integer[Any]]


def class_bits(values: Ints) -> int | None:
    """Give the bits that hold the values, None where they are not of one byte.

    Examples
    --------
    >>> class_bits(np.array([0, 5], np.uint8)), class_bits(np.array([-1], np.int8))
    (3, 8)
    """
    if values.itemsize != 1:
        return None
    return max(1, int(values.view(np.uint8).max()).bit_length())


def pack_classes(values: Ints, bits: int) -> bytes:
    """Code values of one byte, shape (plane, row, col), each below 2**bits."""
    data = np.ascontiguousarray(values).view(np.uint8)
    return store_piece(_classes.encode(data, bits))


def take_classes(reader: SideReader, bits: int, out: Ints) -> None:
    """Undo `pack_classes` into an array of the values' shape.

    Raises
    ------
    CorruptTileError
        The values of the tile have another size than a byte, or there is no such piece.
    """
    if out.itemsize != 1:
        raise CorruptTileError(f"classes in a tile of {out.dtype}: expected bytes")
    data = reader.take_stored(2 * out.size + 64)
    _classes.decode(data, out.view(np.uint8), bits)
