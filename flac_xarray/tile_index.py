"""Finding tiles in a file: the header once, then rows of the tile tables.

Strategy: opening costs one request when header and tables lie in the prefix, and one
exact second request when they do not. Tables too large to read whole are read by
pages as tiles are asked for. Where bytes come from is the source's business, what
they mean the container's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from flac_xarray.container import Layout, unpack_header
from flac_xarray.errors import SourceChangedError, TruncatedError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.header import Header
from flac_xarray.ranges import ByteRange
from flac_xarray.sources import Source
from flac_xarray.tile_codec import decode_tile
from flac_xarray.tile_table import (
    ENTRY,
    TileEntry,
    TileTable,
    check_overlap,
    unpack_table,
)

__all__ = ["DEFAULT_PREFETCH", "DecodeTile", "TileIndex", "read_container"]

DEFAULT_PREFETCH: Final = 64 << 10
"""Bytes of the first request, enough for header and table of a few thousand tiles."""
WHOLE_TABLES_NBYTES: Final = 4 << 20
"""Tables up to this size, all together, are read whole when a file is opened."""
PAGE_ROWS: Final = 4096
"""Rows of one page of a larger table: 64 KiB."""


class DecodeTile(Protocol):
    """Decodes one tile's FLAC stream, see `flac_xarray.tile_codec.decode_tile`."""

    def __call__(
        self,
        data: bytes | memoryview,
        *,
        shape: tuple[int, ...],
        dtype: str,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Decode into `out`, or into a new array."""


_DECODE: Final = partial(decode_tile, is_checked=True)
"""A row's checksum is over all bytes of its tile: those of the frames add nothing."""


@dataclass(slots=True)
class TileIndex:
    """The tile tables of one open file, whole or by pages."""

    source: Source
    layout: Layout
    file_nbytes: int | None
    tables: tuple[TileTable, ...] | None
    """All rows of every array, None when they are read by pages."""
    decode: DecodeTile = _DECODE
    """Decodes tiles whose rows were compared; files of another kind have their own."""
    _pages: dict[tuple[int, int], TileTable] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=fork_safe_lock)

    def on(self, source: Source) -> TileIndex:
        """Give the same tables with pages read from another source of the file."""
        return TileIndex(
            source, self.layout, self.file_nbytes, self.tables, self.decode
        )

    def lookup(self, array: int, numbers: Sequence[int]) -> list[TileEntry]:
        """Give the table rows of some tiles of one array; may do I/O."""
        return [
            self.table(array, number).entry(number)
            for number in self._with_pages(array, numbers)
        ]

    def table(self, array: int, number: int) -> TileTable:
        """Give the (part of the) table that holds one tile; it must be loaded."""
        if self.tables is not None:
            return self.tables[array]
        return self._pages[array, number // PAGE_ROWS]

    def _with_pages(self, array: int, numbers: Sequence[int]) -> Sequence[int]:
        """Load the pages that `numbers` need and give `numbers` back."""
        if self.tables is not None:
            return numbers
        with self._lock:
            pages = sorted(
                {n // PAGE_ROWS for n in numbers}
                - {page for a, page in self._pages if a == array}
            )
            ranges = [self._page_range(array, page) for page in pages]
            for k, data in self.source.read_ranges(ranges):
                first = pages[k] * PAGE_ROWS
                self._pages[array, pages[k]] = unpack_table(
                    bytes(data),
                    self.layout.data_start,
                    first=first,
                    file_nbytes=self.file_nbytes,
                )
        return numbers

    def _page_range(self, array: int, page: int) -> ByteRange:
        start = self.layout.tables[array] + page * PAGE_ROWS * ENTRY.size
        end = self.layout.tables[array] + self.layout.counts[array] * ENTRY.size
        return ByteRange(start, min(start + PAGE_ROWS * ENTRY.size, end))


def read_container(
    source: Source, prefix: bytes, file_nbytes: int | None
) -> tuple[Header, TileIndex]:
    """Read header and tables of a container whose first bytes are at hand.

    Parameters
    ----------
    source
        Where the rest comes from.
    prefix
        First bytes of the file.
    file_nbytes
        Size of the file, None where the source does not tell.

    Raises
    ------
    FormatError
        The file is damaged, truncated or of another kind.
    """
    found = unpack_header(prefix)
    while isinstance(found, int):
        prefix = _extend(source, prefix, found, file_nbytes, "the header")
        found = unpack_header(prefix)
    header, layout = found
    _check_size(source, layout, file_nbytes)
    file_nbytes = file_nbytes or layout.file_nbytes or None
    table_nbytes = layout.data_start - layout.tables[0]
    if table_nbytes > max(WHOLE_TABLES_NBYTES, len(prefix) - layout.tables[0]):
        return header, TileIndex(source, layout, file_nbytes, None)
    prefix = _extend(source, prefix, layout.data_start, file_nbytes, "the tile table")
    tables = tuple(
        unpack_table(
            prefix[start : start + count * ENTRY.size],
            layout.data_start,
            file_nbytes=file_nbytes,
        )
        for start, count in zip(layout.tables, layout.counts, strict=True)
    )
    check_overlap(tables)
    return header, TileIndex(source, layout, file_nbytes, tables)


def _check_size(source: Source, layout: Layout, file_nbytes: int | None) -> None:
    if not layout.file_nbytes or file_nbytes in (None, layout.file_nbytes):
        return
    if file_nbytes < layout.file_nbytes:
        msg = (
            f"{source.name} is truncated: it has {file_nbytes} bytes, its header "
            f"promises {layout.file_nbytes}"
        )
        raise TruncatedError(
            msg, what="the file", expected=layout.file_nbytes, found=file_nbytes
        )
    msg = (
        f"{source.name} has {file_nbytes} bytes, its header promises "
        f"{layout.file_nbytes}: it was appended to or replaced while it was read"
    )
    raise SourceChangedError(msg, url=source.name)


def _extend(
    source: Source, prefix: bytes, stop: int, file_nbytes: int | None, what: str
) -> bytes:
    """Give the first `stop` bytes of the file, reading only those not at hand."""
    if len(prefix) >= stop:
        return prefix
    if file_nbytes is not None and stop > file_nbytes:
        msg = f"{source.name} ends in {what}: {stop} bytes needed, {file_nbytes} found"
        raise TruncatedError(msg, what=what, expected=stop, found=file_nbytes)
    return prefix + bytes(source.read_range(len(prefix), stop))
