"""Decoded tiles kept for the next read, bounded in bytes.

Strategy: the least recently used go first. A read that would fill more than an eighth
of the cache passes it by: one look at a whole scene does not push out what somebody is
panning over, and is decoded straight into its result.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from numpy.typing import NDArray

from flac_xarray.forking import fork_safe_lock

__all__ = ["TileCache"]

TileKey = tuple[int, int]


class TileCache:
    """Tiles by (array position, tile number); safe from several threads.

    Parameters
    ----------
    max_nbytes
        Bytes of pixels that are kept; 0 keeps none.

    Examples
    --------
    >>> import numpy as np
    >>> cache = TileCache(10)
    >>> cache.put((0, 0), np.zeros(8, "uint8"))
    >>> cache.put((0, 1), np.zeros(8, "uint8"))
    >>> cache.get((0, 0)), cache.get((0, 1)).nbytes, cache.hits, cache.misses
    (None, 8, 1, 1)
    """

    def __init__(self, max_nbytes: int) -> None:
        self.max_nbytes = max_nbytes
        self.nbytes = 0
        self.hits = 0
        self.misses = 0
        self._tiles: OrderedDict[TileKey, NDArray[Any]] = OrderedDict()
        self._lock = fork_safe_lock()

    def serves(self, nbytes: int) -> bool:
        """Whether a read of that many bytes of pixels goes through the cache."""
        return 0 < nbytes < self.max_nbytes // 8

    def get(self, key: TileKey) -> NDArray[Any] | None:
        """Give a tile, None when it is not here; counted."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is None:
                self.misses += 1
                return None
            self.hits += 1
            self._tiles.move_to_end(key)
            return tile

    def put(self, key: TileKey, tile: NDArray[Any]) -> None:
        """Keep a tile; it must not be written to any more."""
        with self._lock:
            # A child forked in the midst of this may count a tile that is not here.
            old = self._tiles.pop(key, None)
            self.nbytes += tile.nbytes - (0 if old is None else old.nbytes)
            self._tiles[key] = tile
            while self._tiles and self.nbytes > self.max_nbytes:
                _, oldest = self._tiles.popitem(last=False)
                self.nbytes -= oldest.nbytes
