"""Chunks of dask for chunks of tiles: which blocks are encoded by one task each.

Strategy: chunks that are whole tiles and not too large stay as they are. Others become
blocks of whole tiles near them, of a bounded size, by arithmetic alone; what that costs
is known before anything runs, and said where it is much.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from flac_xarray.errors import RechunkWarning

__all__ = [
    "Chunks",
    "RechunkWarning",
    "plan_blocks",
    "reads_per_chunk",
    "warn_if_expensive",
]

MAX_BLOCK_NBYTES: Final = 64 << 20
"""Bytes of pixels that one task encodes, unless one tile is larger."""
EXPENSIVE_READS: Final = 2.0
"""Blocks that need one chunk, on average, above which a warning is given."""
EXPENSIVE_NBYTES: Final = 64 << 20
"""Smaller arrays are rechunked without a word."""

Chunks = tuple[tuple[int, ...], ...]


def plan_blocks(
    chunks: Chunks,
    tile: Sequence[int],
    itemsize: int,
    max_nbytes: int | None = None,
) -> Chunks:
    """Give blocks of whole tiles, near the chunks.

    Parameters
    ----------
    chunks
        As dask has them.
    tile
        Pixels of a tile along each dim.
    itemsize
        Bytes of a pixel.
    max_nbytes
        Of a block, unless a tile is larger; by default what one task encodes.

    Examples
    --------
    >>> plan_blocks(((100, 100, 50), (64, 64)), (64, 64), 1)
    ((128, 122), (64, 64))
    >>> plan_blocks(((9000,), (9000,)), (512, 512), 2)[0][:2]
    (3584, 3584)
    """
    limit = max_nbytes or MAX_BLOCK_NBYTES
    blocks = [_whole_tiles(c, t) for c, t in zip(chunks, tile, strict=True)]
    largest = [max(c, default=0) for c in blocks]
    for axis, t in enumerate(tile):
        nbytes = math.prod(largest) * itemsize
        if nbytes <= limit or not largest[axis]:
            continue
        # Leading dims are cut first: their tiles are mostly one pixel deep.
        fits = max(int(limit / (nbytes / largest[axis])) // t, 1) * t
        if fits < largest[axis]:
            blocks[axis] = tuple(piece for n in blocks[axis] for piece in _cut(n, fits))
            largest[axis] = max(blocks[axis])
    return tuple(blocks)


def _whole_tiles(chunks: tuple[int, ...], tile: int) -> tuple[int, ...]:
    """Chunks of whole tiles near the given ones.

    Examples
    --------
    >>> _whole_tiles((100, 100, 50), 64), _whole_tiles((128, 128, 30), 64)
    ((128, 122), (128, 128, 30))
    """
    if all(n % tile == 0 for n in chunks[:-1]):
        return chunks
    return _cut(sum(chunks), max(round(max(chunks) / tile), 1) * tile)


def _cut(n: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, n - start) for start in range(0, n, step))


def reads_per_chunk(chunks: Chunks, blocks: Chunks) -> float:
    """How many blocks need a chunk, on average, weighed by bytes.

    Chunks that are cut and nothing else count once: each of their blocks is a view.

    Examples
    --------
    >>> reads_per_chunk(((50, 50),), ((100,),)), reads_per_chunk(((100,),), ((50, 50),))
    (1.0, 1.0)
    >>> reads_per_chunk(((60, 60, 60),), ((64, 64, 52),))
    1.67
    """
    reads = 1.0
    for have, want in zip(chunks, blocks, strict=True):
        if set(accumulate(have)) <= set(accumulate(want)):
            continue
        starts = [0, *accumulate(have)]
        total = 0
        for stop, n in zip(accumulate(want), want, strict=True):
            total += sum(
                b - a for a, b in pairwise(starts) if a < stop and b > stop - n
            )
        reads *= total / max(starts[-1], 1)
    return round(reads, 2)


def warn_if_expensive(
    name: str, chunks: Chunks, blocks: Chunks, tile: Sequence[int], nbytes: int
) -> None:
    """Warn where the blocks need the chunks over and over."""
    reads = reads_per_chunk(chunks, blocks)
    if reads <= EXPENSIVE_READS or nbytes < EXPENSIVE_NBYTES:
        return
    sizes = tuple(max(c, default=0) for c in chunks)
    warnings.warn(
        f"variable {name!r}: chunks of {sizes} pixels do not consist of tiles of "
        f"{tuple(tile)}: each is needed by {reads:.1f} tasks and held for "
        "them. Chunks that are whole tiles, or tile_size= after the chunks, avoid it",
        RechunkWarning,
        stacklevel=5,
    )
