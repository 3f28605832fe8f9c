"""BigTIFF directories: read one that GDAL wrote, write several (TIFF 6.0, section 2).

Strategy: bytes in, values out. A directory maps tag numbers to values whose bytes are
taken as they are, so what a tag means is nobody's business here. Little endian only:
it is what GDAL writes when told to, and what this package hands out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flac_xarray.errors import FormatError

__all__ = ["Directory", "Entry", "pack_directories", "read_directory"]

HEADER: Final = struct.Struct("<2sHHHQ")
"""Byte order, 43, 8 (bytes of an offset), 0, offset of the first directory."""
ENTRY: Final = struct.Struct("<HHQ8s")
"""Tag, type, number of values, the values or their offset."""
COUNT: Final = struct.Struct("<Q")
INLINE: Final = 8
"""Most bytes of values that lie in the entry itself."""
BIGTIFF: Final = 43

TYPE_NBYTES: Final = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4,
    10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
"""Bytes of one value of each TIFF type."""
CODES: Final = {"B": 1, "H": 3, "I": 4, "Q": 16}
"""Types of unsigned integers by their code in `struct`."""


@dataclass(frozen=True, slots=True)
class Entry:
    r"""The values of one tag.

    Examples
    --------
    >>> Entry.of("H", 8, 8).data, Entry.of("H", 8, 8).numbers
    (b'\x08\x00\x08\x00', (8, 8))
    """

    kind: int
    """TIFF's number of the type."""
    count: int
    """Number of values."""
    data: bytes
    """The values, little endian."""

    @classmethod
    def of(cls, code: str, *numbers: int) -> Entry:
        """Make an entry of unsigned integers, whose `struct` code is given."""
        data = struct.pack(f"<{len(numbers)}{code}", *numbers)
        return cls(CODES[code], len(numbers), data)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The values of an entry of unsigned integers."""
        code = {kind: code for code, kind in CODES.items()}[self.kind]
        return struct.unpack(f"<{self.count}{code}", self.data)


Directory = Mapping[int, Entry]
"""Entries by tag number."""


def read_directory(data: bytes) -> dict[int, Entry]:
    """Read the first directory of a little-endian BigTIFF.

    Raises
    ------
    FormatError
        The bytes are none.
    """
    try:
        order, version, _, _, offset = HEADER.unpack_from(data)
        if (order, version) != (b"II", BIGTIFF):
            msg = f"expected a little-endian BigTIFF, found {data[:4]!r}"
            raise FormatError(msg)
        (count,) = COUNT.unpack_from(data, offset)
        at = offset + COUNT.size
        entries = (
            ENTRY.unpack_from(data, at + k * ENTRY.size) for k in range(int(count))
        )
        return {tag: _entry(data, *rest) for tag, *rest in entries}
    except (struct.error, KeyError) as error:
        msg = f"the directory of a TIFF does not parse: {error}"
        raise FormatError(msg) from error


def _entry(data: bytes, kind: int, count: int, inline: bytes) -> Entry:
    nbytes = TYPE_NBYTES[kind] * count
    if nbytes <= INLINE:
        return Entry(kind, count, inline[:nbytes])
    (offset,) = COUNT.unpack(inline)
    return Entry(kind, count, data[offset : offset + nbytes])


def pack_directories(directories: Sequence[Directory]) -> bytes:
    """Give a file of these directories, each followed by its values.

    Examples
    --------
    >>> head = pack_directories([{256: Entry.of("I", 7)}, {256: Entry.of("I", 4)}])
    >>> read_directory(head)[256].numbers
    (7,)
    """
    parts = [HEADER.pack(b"II", BIGTIFF, INLINE, 0, HEADER.size)]
    offset = HEADER.size
    for k, directory in enumerate(directories):
        packed = _pack(directory, offset, last=k == len(directories) - 1)
        parts.append(packed)
        offset += len(packed)
    return b"".join(parts)


def _pack(directory: Directory, offset: int, *, last: bool) -> bytes:
    """Pack one directory that begins at `offset`, and its values after it."""
    at = offset + COUNT.size + len(directory) * ENTRY.size + COUNT.size
    entries, values = [], []
    for tag, entry in sorted(directory.items()):
        if len(entry.data) <= INLINE:
            field = entry.data.ljust(INLINE, b"\0")
        else:
            field = COUNT.pack(at)
            # Every value begins at a multiple of 8, so that arrays are aligned.
            values.append(entry.data + bytes(-len(entry.data) % INLINE))
            at += len(values[-1])
        entries.append(ENTRY.pack(tag, entry.kind, entry.count, field))
    # The next directory follows the last value.
    parts = [COUNT.pack(len(directory)), *entries, COUNT.pack(0 if last else at)]
    return b"".join([*parts, *values])
