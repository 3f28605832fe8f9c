"""A FLAC raster read as the bytes of an uncompressed GeoTIFF.

Strategy: a request for byte ranges becomes a list of tiles, all fetched as one plan and
decoded in the raster's threads straight into the caller's memory. What asks for less
than a tile (a web client's 16 KB) is served from a few whole ones that are kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import COMPLEX_INT16, numpy_dtype
from flac_xarray.geotiff.virtual import TIFF_DTYPES, virtual_geotiff
from flac_xarray.reader import FlacRaster
from flac_xarray.tile_cache import TileCache
from flac_xarray.virtual_tiff import Piece, TiffImage

__all__ = ["VirtualFile"]

Buffer = NDArray[np.uint8]
Block = tuple[slice, ...]

PLAN_NBYTES: Final = 64 << 20
"""Most bytes of tiles that are decoded at once."""


class VirtualFile:
    r"""The bytes of a FLAC raster's virtual GeoTIFF; safe from several threads.

    Parameters
    ----------
    raster
        An open FLAC raster, which the caller closes.
    cache_nbytes
        Bytes of tiles that are kept for requests of less than a tile.

    Raises
    ------
    UnsupportedDataError
        A GeoTIFF cannot hold it.

    Examples
    --------
    >>> import numpy as np
    >>> from flac_xarray.array_writer import encode_array
    >>> data = encode_array(np.arange(6, dtype="uint8").reshape(1, 2, 3))
    >>> with FlacRaster.open(data) as raster:
    ...     file = VirtualFile(raster)
    ...     file.read(0, 4), file.read(file.size - 4096, file.size - 4093)
    (b'II+\x00', b'\x00\x01\x02')
    """

    def __init__(self, raster: FlacRaster, cache_nbytes: int = 32 << 20) -> None:
        self.raster = raster
        self.layout = virtual_geotiff(raster)
        self._head = np.frombuffer(self.layout.head, np.uint8)
        self._cache = TileCache(cache_nbytes)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.layout.size

    @property
    def etag(self) -> str | None:
        """Name of this version: of the FLAC raster and of how it is laid out."""
        if self.raster.token is None:
            return None
        digest = hashlib.blake2b(self.raster.token.encode(), digest_size=12)
        digest.update(self.layout.head)
        return digest.hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        """Read a half-open range; less where the file ends before."""
        out = np.empty(max(0, min(stop, self.size) - start), np.uint8)
        self.read_into([(start, out)])
        return out.tobytes()

    def read_into(self, wanted: Sequence[tuple[int, Buffer]]) -> None:
        """Read several ranges as one plan.

        Parameters
        ----------
        wanted
            Where each range begins, and the memory that it fills; inside the file.

        Raises
        ------
        CorruptTileError
            A tile is damaged.
        SourceError
            Bytes could not be had.
        """
        whole: list[tuple[Piece, Buffer]] = []
        held = 0
        for start, out in wanted:
            for piece in self.layout.pieces(start, start + len(out)):
                part = out[piece.start - start : piece.stop - start]
                if piece.image is None:
                    self._copy_head(piece, part)
                elif len(part) < self.layout.images[piece.image].tile_nbytes:
                    self._copy_part(piece, part)
                else:
                    whole.append((piece, part))
                    held += len(part)
                if held >= PLAN_NBYTES:
                    self._decode(whole)
                    whole, held = [], 0
        self._decode(whole)

    def _copy_head(self, piece: Piece, out: Buffer) -> None:
        """Copy a part of the head; what lies between images is zero."""
        head = self._head[piece.start : piece.stop]
        out[: len(head)] = head
        out[len(head) :] = 0

    def _copy_part(self, piece: Piece, out: Buffer) -> None:
        """Copy a part of a tile, which is kept for the parts around it."""
        assert piece.image is not None  # noqa: S101 - the caller asked
        key = (piece.image, piece.tile)
        tile = self._cache.get(key)
        if tile is None:
            tile = np.empty(self.layout.images[piece.image].tile_nbytes, np.uint8)
            self._decode([(piece, tile)])
            self._cache.put(key, tile)
        begin = piece.start - piece.tile_start
        out[:] = tile[begin : begin + len(out)]

    def _decode(self, tiles: Sequence[tuple[Piece, Buffer]]) -> None:
        """Decode whole tiles into memory, those of one image as one plan."""
        for which, image in enumerate(self.layout.images):
            mine = [(p.tile, out) for p, out in tiles if p.image == which]
            if not mine:
                continue
            info = self.raster.header.arrays[image.position]
            tile = info.grid.tile[-2:]
            aligned = all(
                t == n or t >= size
                for t, n, size in zip(
                    tile, image.grid.tile[1:], image.grid.shape[1:], strict=True
                )
            )
            # Tiles that share a tile of the file come one by one, out of its cache.
            step = len(mine) if aligned else 1
            for k in range(0, len(mine), step):
                self._decode_image(image, mine[k : k + step])

    def _decode_image(
        self, image: TiffImage, tiles: Sequence[tuple[int, Buffer]]
    ) -> None:
        info = self.raster.header.arrays[image.position]
        stored = numpy_dtype(info.dtype)
        shown = np.dtype(TIFF_DTYPES.get(info.dtype, stored)).newbyteorder("<")
        # Only then are the decoder's bytes the file's.
        direct = stored == shown and info.dtype != COMPLEX_INT16
        blocks: list[Block] = []
        targets: list[NDArray[Any]] = []
        after: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for number, out in tiles:
            slices = image.grid.slices(image.grid.index(number))
            shape = [s.stop - s.start for s in slices]
            if math.prod(shape) * image.itemsize < len(out):
                out[:] = 0  # a tile on the edge is padded
            place = _view(image, out, info.dtype, shown)[tuple(map(slice, shape))]
            pixels = place if direct else np.empty(shape, stored)
            flat = len(info.shape) == len(slices) - 1
            blocks.append(slices[1:] if flat else slices)
            targets.append(pixels[0] if flat else pixels)
            if not direct:
                after.append((place, pixels))
        self.raster.read_blocks(blocks, targets, image.position)
        for place, pixels in after:
            _convert(place, pixels, info.dtype)


def _view(
    image: TiffImage, out: Buffer, dtype: str, shown: np.dtype[Any]
) -> NDArray[Any]:
    """Give a tile's bytes as pixels, shape (band, row, col)."""
    bands, rows, cols = image.grid.tile
    parts: tuple[int, ...] = ()
    if dtype == COMPLEX_INT16:
        shown, parts = np.dtype("<i2"), (2,)
    flat = out.view(shown)
    if image.interleaved:
        return np.moveaxis(flat.reshape(rows, cols, bands, *parts), 2, 0)
    return flat.reshape(bands, rows, cols, *parts)


def _convert(place: NDArray[Any], pixels: NDArray[Any], dtype: str) -> None:
    """Write pixels of a dtype that the file holds in another form."""
    if dtype == COMPLEX_INT16:
        place[..., 0] = pixels.real
        place[..., 1] = pixels.imag
    else:
        place[...] = pixels
