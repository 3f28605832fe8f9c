"""Whether a file is whole: its structure, and with `full` every tile.

Strategy: opening a file checks its header, tables and size; what that refuses is the
first error. The full check goes through the tiles as they lie in the file and asks of
each whether checksum, samples, MD5 and comments are what the rest of the file says.
All findings are returned as a value; only bytes that cannot be had are raised.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flac_xarray import flac_stream
from flac_xarray.dtypes import itemsize
from flac_xarray.errors import FlacRasterError, FormatError, LossyFileWarning
from flac_xarray.forking import fork_safe_lock
from flac_xarray.legacy_tiles import LegacyDecoder
from flac_xarray.read_plan import run_on_arrival
from flac_xarray.reader import FlacRaster
from flac_xarray.tile_codec import decode_tile, read_tile_header
from flac_xarray.tile_encoder import TileEncoder

__all__ = ["Report", "validate_raster"]

MOST_FINDINGS: Final = 100
"""Findings that are listed; a file of which nothing is left would list every tile."""
ROWS: Final = 4096
"""Tiles that are planned in one go."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `validate_raster` found; unpacks as (ok, errors, warnings)."""

    errors: tuple[str, ...]
    """What makes the file wrong."""
    warnings: tuple[str, ...]
    """What is unusual, or could not be checked."""
    n_tiles: int
    """Tiles that were decoded."""

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def __iter__(self) -> Iterator[Any]:
        return iter((self.ok, self.errors, self.warnings))


def validate_raster(
    source: Any,
    *,
    full: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Check a FLAC raster.

    Parameters
    ----------
    source
        Path, URL, bytes or an open file.
    full
        Whether to decode every tile.
    storage_options
        Options of the fsspec file system.
    threads
        Threads that decode; by default one a core.
    progress
        Called with the pixel bytes of each tile decoded.

    Returns
    -------
    Report
        Errors and warnings.

    Raises
    ------
    SourceError
        The bytes cannot be had: nothing is known about the file.

    Examples
    --------
    >>> import numpy as np
    >>> from flac_xarray.array_writer import encode_array
    >>> data = encode_array(np.eye(4, dtype="uint8"))
    >>> validate_raster(data, full=True)
    Report(errors=(), warnings=(), n_tiles=1)
    >>> ok, errors, warnings = validate_raster(data[:-1])
    >>> ok, errors[0].split(":")[0]
    (False, '<memory> is truncated')
    """
    errors, notes = _Log(), _Log()
    with warnings.catch_warnings(record=True) as told:
        # What a file of another writer lost is a finding, not a message in passing.
        warnings.simplefilter("always", LossyFileWarning)
        try:
            with FlacRaster.open(
                source, storage_options=storage_options, threads=threads
            ) as raster:
                _check_structure(raster, errors, notes)
                check = _TileCheck(raster, progress)
                if full:
                    check.check_all(errors, notes)
        except FormatError as error:
            return Report((str(error),), notes.texts, 0)
    for text in dict.fromkeys(str(warning.message) for warning in told):
        notes.add(text)
    return Report(errors.texts, notes.texts, check.n_tiles)


class _Log:
    """Findings, the first of them in words."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._more = 0

    def add(self, *texts: str) -> None:
        room = MOST_FINDINGS - len(self._texts)
        self._texts += texts[:room]
        self._more += len(texts[room:])

    @property
    def texts(self) -> tuple[str, ...]:
        more = (f"... and {self._more} more",) if self._more else ()
        return (*self._texts, *more)


def _check_structure(raster: FlacRaster, errors: _Log, notes: _Log) -> None:
    """Check what opening leaves: empty tiles, and bytes that nobody claims."""
    used = sum(
        _check_rows(raster, position, errors, notes)
        for position in range(len(raster.header.arrays))
    )
    if raster.nbytes is None:
        notes.add("the size of the file is not known, so its end was not checked")
        return
    unused = raster.nbytes - raster.index.layout.data_start - used
    if unused > 0 and not _is_legacy(raster):
        notes.add(f"{unused} bytes between or behind the tiles are of no use")


def _check_rows(raster: FlacRaster, position: int, errors: _Log, notes: _Log) -> int:
    """Check the rows of one table that need no tile; give the bytes of its tiles."""
    info = raster.header.arrays[position]
    used, has_crc = 0, True
    for numbers in _batches(info.grid.n_tiles):
        entries = raster.index.lookup(position, numbers)
        for number, entry in zip(numbers, entries, strict=True):
            used += entry.nbytes
            has_crc = entry.crc32 is not None
            if entry.nbytes:
                continue
            # An empty tile has no bytes, so its checksum can be checked here.
            table = raster.index.table(position, number)
            try:
                table.check_tile(b"", position, number)
            except FormatError as error:
                errors.add(f"array {info.name!r}: {error}")
    if not has_crc:
        notes.add(f"array {info.name!r}: the file holds no checksums of its tiles")
    return used


def _batches(n_tiles: int) -> Iterator[range]:
    for first in range(0, n_tiles, ROWS):
        yield range(first, min(first + ROWS, n_tiles))


def _is_legacy(raster: FlacRaster) -> bool:
    return isinstance(raster.index.decode, LegacyDecoder)


def _is_foreign(raster: FlacRaster, data: bytes | memoryview) -> bool:
    """Whether a tile of a legacy file was not made by this package."""
    if not _is_legacy(raster):
        return False
    _, blocks, _ = flac_stream.unpack_stream(data)
    return "GEOSPATIAL_TRANSFORMS" not in flac_stream.unpack_comments(blocks)


class _TileCheck:
    """Decodes every tile and keeps what is wrong with it."""

    def __init__(
        self, raster: FlacRaster, progress: Callable[[int], object] | None
    ) -> None:
        self.raster = raster
        self.progress = progress
        self.encoder = TileEncoder(raster.header)
        self.n_tiles = 0
        self._lock = fork_safe_lock()
        self._found: dict[tuple[int, int], list[str]] = {}
        self._without_md5 = 0

    def check_all(self, errors: _Log, notes: _Log) -> None:
        """Check the tiles of all arrays, in threads; findings come in their order."""
        for position, info in enumerate(self.raster.header.arrays):
            for batch in _batches(info.grid.n_tiles):
                entries = self.raster.index.lookup(position, batch)
                full = [n for n, e in zip(batch, entries, strict=True) if e.nbytes]

                def check(
                    k: int,
                    data: bytes | memoryview,
                    at: int = position,
                    numbers: Sequence[int] = full,
                ) -> None:
                    self._note(at, numbers[k], *self._check(at, numbers[k], data))

                arriving = self.raster.fetch_tiles(position, full)
                run_on_arrival(arriving, check, self.raster.threads)
        for _, texts in sorted(self._found.items()):
            errors.add(*texts)
        if self._without_md5:
            n = self._without_md5
            who = "1 tile has" if n == 1 else f"{n} tiles have"
            notes.add(f"{who} no MD5 of {'its' if n == 1 else 'their'} samples")

    def _note(self, position: int, number: int, texts: list[str], nbytes: int) -> None:
        with self._lock:
            self.n_tiles += 1
            if texts:
                self._found[position, number] = texts
            if self.progress is not None:
                self.progress(nbytes)

    def _check(
        self, position: int, number: int, data: bytes | memoryview
    ) -> tuple[list[str], int]:
        """Ask everything of one tile; give what is wrong, and its pixels' bytes."""
        info = self.raster.header.arrays[position]
        index = info.grid.index(number)
        shape = info.grid.tile_shape(index)
        table = self.raster.index.table(position, number)
        nbytes = math.prod(shape) * itemsize(info.dtype)
        where = (
            f"tile {index} of array {info.name!r}, byte {table.entry(number).offset}"
        )
        try:
            table.check_tile(data, position, number)
            if _is_foreign(self.raster, data):
                self.raster.index.decode(data, shape=shape, dtype=info.dtype)
                return [], nbytes
            decode_tile(data, shape=shape, dtype=info.dtype, verify_md5=True)
            header = read_tile_header(data)
        except FlacRasterError as error:
            return [f"{where}: {error}"], nbytes
        if not any(header.info.md5):
            with self._lock:
                self._without_md5 += 1
        if _is_legacy(self.raster):  # the header was made from the comments
            return [], nbytes
        expected = self.encoder.comments(position, index)
        return [
            f"{where}: its comment {name} is {header.comments.get(name)!r:.80}, "
            f"expected {value!r:.80}"
            for name, value in expected.items()
            if header.comments.get(name) != value
        ], nbytes
