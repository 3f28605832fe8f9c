"""A TIFF that is never written: which of its bytes are pixels of which tile.

Strategy: arithmetic only. The file is a head (directories and their values) and after
it, uncompressed, every tile of every image at full size, so a tile's place follows from
its number. The order is a Cloud Optimized GeoTIFF's: directories from the largest image
to the smallest, tiles from the smallest image to the largest.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from flac_xarray.bigtiff import Directory, Entry, pack_directories
from flac_xarray.grid import TileGrid

__all__ = ["Piece", "TiffImage", "VirtualTiff", "tile_side"]

SIDE: Final = 16
"""The sides of a TIFF tile are multiples of this."""
ALIGN: Final = 4096
"""Tiles begin at a multiple of this."""

SUBFILE, WIDTH, LENGTH, COMPRESSION, PLANAR = 254, 256, 257, 259, 284
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_NBYTES = 322, 323, 324, 325
STRIP_TAGS: Final = frozenset({273, 278, 279, 317})
"""Strips and the predictor: what a head made for other pixels may hold."""


def tile_side(tile: int, size: int) -> int:
    """Give the side of a TIFF tile for tiles of that side, on an image of that size.

    Examples
    --------
    >>> tile_side(512, 5000), tile_side(512, 259), tile_side(100, 5000)
    (512, 272, 112)
    """
    side = min(tile, size)
    return -(-side // SIDE) * SIDE


@dataclass(frozen=True, slots=True)
class TiffImage:
    """One image of the file: an array at one level, or its mask."""

    position: int
    """Which of the header's arrays."""
    grid: TileGrid
    """Tiling of (band, row, col) in the TIFF: one band, or all of them, a tile."""
    itemsize: int
    """Bytes of one pixel of one band."""
    tags: Directory
    """The entries that do not follow from the grid."""
    subfile: int = 0
    """TIFF's NewSubfileType: 1 smaller copy, 4 mask."""

    @property
    def interleaved(self) -> bool:
        """Whether a tile holds all bands, pixel by pixel."""
        return self.grid.tile[0] == self.grid.shape[0]

    @property
    def tile_nbytes(self) -> int:
        """Bytes of every tile; those on the edges are padded."""
        bands, rows, cols = self.grid.tile
        return bands * rows * cols * self.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all tiles."""
        return self.grid.n_tiles * self.tile_nbytes

    def directory(self, base: int) -> dict[int, Entry]:
        """Give the directory of this image, whose tiles begin at byte `base`."""
        _, height, width = self.grid.shape
        _, rows, cols = self.grid.tile
        n = self.grid.n_tiles
        offsets = base + np.arange(n, dtype="<u8") * self.tile_nbytes
        counts = np.full(n, self.tile_nbytes, "<u8")
        kept = {tag: e for tag, e in self.tags.items() if tag not in STRIP_TAGS}
        return kept | {
            SUBFILE: Entry.of("I", self.subfile),
            WIDTH: Entry.of("I", width),
            LENGTH: Entry.of("I", height),
            COMPRESSION: Entry.of("H", 1),
            PLANAR: Entry.of("H", 1 if self.interleaved else 2),
            TILE_WIDTH: Entry.of("I", cols),
            TILE_LENGTH: Entry.of("I", rows),
            TILE_OFFSETS: Entry(16, n, offsets.tobytes()),
            TILE_NBYTES: Entry(16, n, counts.tobytes()),
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that lie in one tile, in the head, or between them."""

    start: int
    """First byte in the file."""
    stop: int
    """Byte after the last one."""
    image: int | None = None
    """Which of `VirtualTiff.images`; None for the head and its padding."""
    tile: int = 0
    """Number of the tile in the image's grid."""
    tile_start: int = 0
    """Where the tile begins in the file."""


@dataclass(frozen=True, slots=True)
class VirtualTiff:
    """The layout of the whole file.

    Examples
    --------
    >>> image = TiffImage(0, TileGrid((1, 40, 20), (1, 32, 32)), 2, {})
    >>> tiff = VirtualTiff.of([image])
    >>> [(p.image, p.tile, p.stop - p.start) for p in tiff.pieces(4000, 8192)]
    [(None, 0, 96), (0, 0, 2048), (0, 1, 2048)]
    """

    images: tuple[TiffImage, ...]
    """In the order of their directories."""
    bases: tuple[int, ...]
    """Where each one's tiles begin."""
    head: bytes = field(repr=False)
    """The first bytes, up to the first tile."""
    size: int
    """Bytes of the file."""

    @classmethod
    def of(cls, images: Sequence[TiffImage]) -> VirtualTiff:
        """Lay out images; the first is the full one, smaller ones follow."""
        # Offsets take the same room whatever they are.
        draft = pack_directories([image.directory(0) for image in images])
        first = offset = -(-len(draft) // ALIGN) * ALIGN
        bases = []
        for image in reversed(images):
            bases.append(offset)
            offset += -(-image.nbytes // ALIGN) * ALIGN
        bases.reverse()
        pairs = zip(images, bases, strict=True)
        head = pack_directories([image.directory(base) for image, base in pairs])
        return cls(tuple(images), tuple(bases), head.ljust(first, b"\0"), offset)

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """Cut a half-open range of bytes where tiles begin and end.

        Yields
        ------
        Piece
            Without gaps, up to the end of the file at most.
        """
        stop = min(stop, self.size)
        ascending = self.bases[::-1]
        while start < stop:
            k = bisect.bisect_right(ascending, start) - 1
            if k < 0:
                piece = Piece(start, min(stop, len(self.head)))
            else:
                piece = self._in_image(len(ascending) - 1 - k, start, stop)
            yield piece
            start = piece.stop

    def _in_image(self, which: int, start: int, stop: int) -> Piece:
        image, base = self.images[which], self.bases[which]
        tile = (start - base) // image.tile_nbytes
        if tile >= image.grid.n_tiles:  # the padding up to the next image
            end = base + -(-image.nbytes // ALIGN) * ALIGN
            return Piece(start, min(stop, end))
        begin = base + tile * image.tile_nbytes
        return Piece(start, min(stop, begin + image.tile_nbytes), which, tile, begin)
