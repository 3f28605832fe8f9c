"""Tiles on their way through encoding threads, overviews with them.

Strategy: one thread puts tiles in and takes encoded ones out, in the same order; a
bounded number is under way. What can be made of a tile goes to the back of the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from numpy.typing import NDArray

from flac_xarray.crew import Crew
from flac_xarray.pyramid import OverviewTile, Pyramid
from flac_xarray.tile_encoder import TileEncoder

__all__ = ["Encoded", "TileQueue"]

IN_FLIGHT: Final = 2
"""Tiles waiting for each encoding thread."""

Encoded = tuple[int, tuple[int, ...], bytes, NDArray[Any]]
"""Position, tile index, the tile as it lies in the file, its pixels."""


class TileQueue:
    """Encodes tiles in the threads of a crew.

    Parameters
    ----------
    crew
        Who encodes.
    encoder
        How.
    pyramid
        Makes overviews of the tiles.
    append
        Called with position, tile index and bytes of each encoded tile.
    progress
        Called with the number of pixel bytes of each tile done.
    """

    def __init__(
        self,
        crew: Crew[Encoded],
        encoder: TileEncoder,
        pyramid: Pyramid,
        append: Callable[[int, tuple[int, ...], bytes], object],
        progress: Callable[[int], object] | None,
    ) -> None:
        self.crew = crew
        self.limit = crew.threads * IN_FLIGHT
        self.encoder = encoder
        self.pyramid = pyramid
        self.append = append
        self.progress = progress

    def put(self, position: int, index: tuple[int, ...], tile: NDArray[Any]) -> None:
        """Begin to encode a tile; wait while too many are under way."""
        if self.pyramid.feeds(position):
            tile = tile.copy()  # it is kept, and what the caller has may change
        self.crew.put(self._encode, position, index, tile)
        self._make(self.pyramid.add(position, index, tile))
        self.drain(self.limit)

    def drain(self, left: int = 0) -> None:
        """Wait until no more than so many tiles are under way."""
        while len(self.crew) > left:
            position, index, data, pixels = self.crew.take()
            self.append(position, index, data)
            if self.progress is not None:
                self.progress(pixels.nbytes)
            if self.pyramid.makes(position):
                self._make(self.pyramid.add(position, index, pixels))

    def _make(self, tiles: list[OverviewTile]) -> None:
        for tile in tiles:
            self.crew.put(self._encode_overview, tile)

    def _encode(
        self, position: int, index: tuple[int, ...], tile: NDArray[Any]
    ) -> Encoded:
        return position, index, self.encoder.encode(position, index, tile), tile

    def _encode_overview(self, tile: OverviewTile) -> Encoded:
        return self._encode(tile.position, tile.index, tile.make())
