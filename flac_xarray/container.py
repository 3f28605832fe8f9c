"""The container's first bytes: length, JSON header, seal, and where tables lie.

Strategy: with `tile_table` the only place that knows byte offsets (docs/format.md,
sections 2 and 8). It turns bytes into frozen values and values into bytes, does no
I/O, and trusts nothing: every size is checked against the others before anybody
allocates or reads with it. Any bytes give a value or a `FormatError`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from flac_xarray.errors import (
    FormatError,
    NotFlacRasterError,
    UnsupportedVersionError,
)
from flac_xarray.header import (
    FORMAT_NAME,
    FORMAT_VERSION,
    Header,
    pack_json,
    unpack_json,
)
from flac_xarray.tile_table import ENTRY, TileTable

__all__ = [
    "LENGTH",
    "MAX_HEADER_NBYTES",
    "SEAL",
    "SEAL_MAGIC",
    "Layout",
    "header_nbytes",
    "is_container",
    "pack_header",
    "plan_layout",
    "unpack_header",
]

MAX_HEADER_NBYTES: Final = 64 << 20
"""Longest JSON header that is read, in bytes."""
LENGTH: Final = struct.Struct(">I")
"""Length of the JSON header, bytes 0 to 4."""
SEAL: Final = struct.Struct("<4sIQ")
"""Magic, CRC-32 of everything before the seal, size of the file."""
SEAL_MAGIC: Final = b"FXRS"
START: Final = f'{{"format":"{FORMAT_NAME}","version":"'.encode()
"""What every JSON header begins with."""
VERSION_NBYTES: Final = 16
"""Bytes behind it in which the version ends; no header is shorter."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts before the tiles lie, in bytes from the start of the file."""

    json_nbytes: int
    """Length of the JSON, padding included."""
    tables: tuple[int, ...]
    """Offset of each array's tile table."""
    counts: tuple[int, ...]
    """Rows of each table."""
    data_start: int
    """First byte that a tile may take: the end of the last table."""
    file_nbytes: int
    """Size of the file that the seal promises; 0 while it is being written."""


def is_container(prefix: bytes) -> bool:
    """Say whether bytes begin like a container of any version."""
    start = prefix[LENGTH.size : LENGTH.size + len(START)]
    return bool(start) and START.startswith(bytes(start))


def plan_layout(header: Header, file_nbytes: int = 0) -> tuple[Layout, bytes]:
    """Place the header's parts.

    Returns
    -------
    Layout, bytes
        The plan, and the padded JSON that carries it. Its length depends on the
        header alone, so a writer reserves ``data_start`` bytes before any tile exists.
    """
    counts = tuple(array.grid.n_tiles for array in header.arrays)
    nbytes = 0
    while True:
        # Offsets are text in the JSON, so its length is found by trying: it only grows.
        start = LENGTH.size + nbytes + SEAL.size
        *tables, data_start = accumulate(
            (n * ENTRY.size for n in counts), initial=start
        )
        text = pack_json(header, tables)
        padded = len(text) + -(LENGTH.size + len(text)) % ENTRY.size
        if padded <= nbytes:
            break
        nbytes = padded
    if nbytes > MAX_HEADER_NBYTES:
        msg = f"the header takes {nbytes} bytes, above the limit of {MAX_HEADER_NBYTES}"
        raise FormatError(msg)
    layout = Layout(nbytes, tuple(tables), counts, data_start, file_nbytes)
    return layout, text.ljust(nbytes)


def header_nbytes(header: Header) -> int:
    """Bytes that header, seal and tables take: where the first tile may begin."""
    return plan_layout(header)[0].data_start


def pack_header(header: Header, tables: Sequence[TileTable], file_nbytes: int) -> bytes:
    """Give all bytes before the tiles: length, JSON, seal, tables."""
    layout, text = plan_layout(header, file_nbytes)
    head = LENGTH.pack(len(text)) + text
    seal = SEAL.pack(SEAL_MAGIC, zlib.crc32(head), file_nbytes)
    body = b"".join(table.pack() for table in tables)
    if len(head) + len(seal) + len(body) != layout.data_start:
        msg = f"tables of {len(body)} bytes do not fit the {layout.counts} tiles"
        raise ValueError(msg)
    return head + seal + body


def unpack_header(prefix: bytes) -> tuple[Header, Layout] | int:
    """Read the header from the first bytes of a file.

    Parameters
    ----------
    prefix
        The file from byte 0 on, as much as is at hand.

    Returns
    -------
    (Header, Layout) or int
        An int says that this many bytes from the start of the file are needed.

    Raises
    ------
    NotFlacRasterError, UnsupportedVersionError, FormatError
        Whatever else the bytes are.
    """
    if len(prefix) >= LENGTH.size + len(START) and not is_container(prefix):
        msg = f"not a FLAC raster: the file begins with {bytes(prefix[:16])!r}"
        raise NotFlacRasterError(msg, found=bytes(prefix[:16]))
    if len(prefix) < LENGTH.size + len(START) + VERSION_NBYTES:
        return LENGTH.size + len(START) + VERSION_NBYTES
    _check_version(prefix)
    nbytes = int(LENGTH.unpack_from(prefix)[0])
    if nbytes > MAX_HEADER_NBYTES:
        msg = (
            f"the header claims {nbytes} bytes, above the limit of {MAX_HEADER_NBYTES}"
        )
        raise FormatError(msg)
    end = LENGTH.size + nbytes
    if len(prefix) < end + SEAL.size:
        return end + SEAL.size
    magic, crc, file_nbytes = SEAL.unpack_from(prefix, end)
    if magic != SEAL_MAGIC or crc != zlib.crc32(prefix[:end]):
        msg = (
            "the header is damaged: its checksum is "
            f"{zlib.crc32(prefix[:end]):08x}, the seal says {crc:08x} ({magic!r})"
        )
        raise FormatError(msg)
    header, tables = unpack_json(bytes(prefix[LENGTH.size : end]))
    return header, _check_layout(header, nbytes, tables, file_nbytes)


def _check_version(prefix: bytes) -> None:
    start = LENGTH.size + len(START)
    version = (
        bytes(prefix[start : start + VERSION_NBYTES])
        .split(b'"')[0]
        .decode("ascii", "replace")
    )
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        msg = (
            f"written by a newer flac_xarray (format {version}; this one reads "
            f"{FORMAT_VERSION.split('.')[0]}.x): upgrade flac_xarray"
        )
        raise UnsupportedVersionError(msg, found=version)


def _check_layout(
    header: Header, json_nbytes: int, tables: tuple[int, ...], file_nbytes: int
) -> Layout:
    start = LENGTH.size + json_nbytes + SEAL.size
    counts = tuple(array.grid.n_tiles for array in header.arrays)
    at = start
    for array, table, count in zip(header.arrays, tables, counts, strict=True):
        if table != at:
            msg = f"the table of array {array.name!r} is at {table}: expected {at}"
            raise FormatError(msg)
        at += count * ENTRY.size
    if file_nbytes and at > file_nbytes:
        msg = f"tables of {at - start} bytes do not fit a file of {file_nbytes} bytes"
        raise FormatError(msg)
    return Layout(json_nbytes, tables, counts, at, file_nbytes)
