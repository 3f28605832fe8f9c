"""One tile of pixels to one complete FLAC stream, and back (docs/format.md, section 4).

Strategy: `tile_choice` picks a plan, `transforms` carries it out, `flac_frames` codes
the samples, `flac_stream` frames it. The stream's comments hold the tile's shape, dtype
and plan, so a tile cut out of a file decodes alone. Nothing in the bytes is trusted:
sizes are compared with the caller's shape before anything is allocated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray import flac_frames, flac_stream
from flac_xarray.dtypes import COMPLEX_INT16, DTYPES, numpy_dtype
from flac_xarray.errors import CorruptTileError, FormatError, UnsupportedDataError
from flac_xarray.flac_stream import StreamInfo
from flac_xarray.tile_choice import EFFORTS, choose
from flac_xarray.transforms.pipeline import Coded, undo_plan
from flac_xarray.transforms.plan import Plan
from flac_xarray.transforms.values import (
    check_parts,
    from_parts,
    part_dtype,
    parts_shape,
    parts_view,
    to_parts,
)

__all__ = ["TileHeader", "decode_tile", "encode_tile", "read_tile_header"]

SIDE_ID: Final = b"FXRS"
"""Id of the APPLICATION blocks that hold side data."""
DTYPE: Final = "GEOSPATIAL_DTYPE"
SIZES: Final = ("GEOSPATIAL_COUNT", "GEOSPATIAL_HEIGHT", "GEOSPATIAL_WIDTH")
SHAPE: Final = "GEOSPATIAL_SHAPE"
"""Only where `SIZES` do not say it: a tile has other than three dimensions."""
TRANSFORMS: Final = "GEOSPATIAL_TRANSFORMS"
MAX_PIXELS: Final = 1 << 31
"""Most parts of pixels in a tile."""


@dataclass(frozen=True, slots=True)
class TileHeader:
    """What a tile's stream says about itself, without its samples."""

    info: StreamInfo
    """The STREAMINFO block."""
    comments: Mapping[str, str]
    """All comments, names in upper case."""
    shape: tuple[int, ...]
    """Shape of the tile, ending in (row, col)."""
    dtype: str
    """Format dtype name."""
    plan: Plan
    """Its transforms."""
    side_nbytes: int
    """Bytes of side data, packed."""
    frames_offset: int
    """Where in the stream the samples begin."""

    @property
    def transforms(self) -> tuple[str, ...]:
        """Names of the transforms with their parameters, in order of encoding."""
        return tuple(self.plan.pack().split())


def encode_tile(  # the caller's choices
    tile: NDArray[Any],
    *,
    dtype: str,
    nodata: bytes | None = None,
    comments: Mapping[str, str] = MappingProxyType({}),
    effort: int = 5,
    interleave: str = "band",
) -> bytes:
    """Encode one tile.

    Parameters
    ----------
    tile : ndarray, shape (..., row, col)
        At least one pixel, in the NumPy form of `dtype` (any byte order).
    dtype
        Format dtype name.
    nodata
        Little-endian bits of one nodata pixel.
    comments
        What else the tile says about itself.
    effort
        0 (fastest) to 9 (smallest).
    interleave
        ``"band"``: planes one after another; ``"pixel"``: up to 8 planes as channels,
        where their samples have at most 24 bits.

    Returns
    -------
    bytes
        One complete FLAC stream.

    Raises
    ------
    UnsupportedDataError
        The tile cannot be stored: dtype, shape, comments.

    Examples
    --------
    >>> tile = np.arange(12, dtype=np.int16).reshape(1, 3, 4)
    >>> data = encode_tile(tile, dtype="int16")
    >>> decode_tile(data, shape=(1, 3, 4), dtype="int16").tolist() == tile.tolist()
    True
    """
    _check_tile(tile, dtype, effort, interleave)
    parts = to_parts(tile, dtype)
    if _is_constant(tile, parts):
        pixel = np.ascontiguousarray(tile.reshape(-1)[:1], numpy_dtype(dtype))
        plan = Plan(fill=pixel.tobytes())
        coded = Coded(plan, np.zeros(1, np.int16), 16, b"")
    else:
        coded = choose(
            parts,
            is_float=numpy_dtype(dtype).kind in "fc" and dtype != COMPLEX_INT16,
            nodata=nodata,
            effort=effort,
            is_pixel=interleave == "pixel",
        )
    setting = EFFORTS[effort]
    is_single = len(coded.samples) == 1
    info, frames = flac_frames.encode_samples(
        coded.samples,
        coded.bits_per_sample,
        level=setting.level,
        blocksize=16 if is_single else setting.blocksize,
    )
    # Transforms even where there are none: a bare tile is told from others' FLAC by it.
    texts = {
        **comments,
        DTYPE: dtype,
        **_shape_comments(tile.shape),
        TRANSFORMS: coded.plan.pack(),
    }
    blocks = [
        flac_stream.pack_comments(texts),
        *flac_stream.pack_application(SIDE_ID, coded.side),
    ]
    return flac_stream.pack_stream(info, blocks, frames)


def read_tile_header(data: bytes | memoryview) -> TileHeader:
    """Read what a tile's stream says about itself; `data` may lack the samples.

    Raises
    ------
    FormatError
        The bytes are no tile.
    """
    return _read_header(data)[0]


def decode_tile(
    data: bytes | memoryview,
    *,
    shape: tuple[int, ...],
    dtype: str,
    out: NDArray[Any] | None = None,
    verify_md5: bool = False,
    is_checked: bool = False,
) -> NDArray[Any]:
    """Decode one tile.

    Parameters
    ----------
    data
        One complete FLAC stream.
    shape, dtype
        What the caller expects the tile to be.
    out : ndarray, that shape and the NumPy form of that dtype, optional
        Filled and returned. Its content is undefined after an error.
    verify_md5
        Compare the samples with STREAMINFO's MD5, where it has one.
    is_checked
        The caller has compared a checksum of `data`, so those of the FLAC frames need
        not be.

    Returns
    -------
    ndarray
        Bit-identical to what was encoded.

    Raises
    ------
    FormatError
        The bytes are no tile.
    CorruptTileError
        They are another tile, or damaged.
    """
    header, side = _read_header(data)
    if (header.shape, header.dtype) != (tuple(shape), dtype):
        raise CorruptTileError(
            f"the tile is {header.dtype} {header.shape}: expected {dtype} {shape}"
        )
    if not is_checked and flac_stream.SEAL in header.comments:
        seal = header.comments[flac_stream.SEAL]
        flac_stream.check_seal(data, seal, header.frames_offset)
    frames = memoryview(data)[header.frames_offset :]
    numpy_form = numpy_dtype(dtype)
    out = np.empty(shape, numpy_form) if out is None else out
    if (out.shape, out.dtype) != (tuple(shape), numpy_form):
        raise ValueError(f"out is {out.dtype} {out.shape}: not {numpy_form} {shape}")

    def get_samples(values: NDArray[Any], planes: int | None) -> None:
        flac_frames.decode_into(
            header.info,
            frames,
            values,
            planes=planes,
            is_checked=is_checked,
            verify_md5=verify_md5,
        )

    if header.plan.fill is not None:
        get_samples(np.empty(1, np.int32), 1)
        if len(header.plan.fill) != numpy_form.itemsize:
            raise CorruptTileError("the fill pattern has another size than a pixel")
        out[...] = np.frombuffer(header.plan.fill, numpy_form)[0]
        return out
    # Straight into the caller's array where there is a view of its parts.
    parts, scratch = parts_view(out, dtype), None
    is_apart = parts is None
    if parts is None:
        parts = np.empty(parts_shape(shape, dtype), part_dtype(dtype))
        # Else that array has room for what comes before the parts.
        if out.flags.c_contiguous:
            scratch = out.reshape(-1).view(np.uint8)
    undo_plan(header.plan, side, parts, get_samples, scratch)
    check_parts(parts, dtype)
    if is_apart:
        from_parts(parts, dtype, out)
    return out


def _check_tile(tile: NDArray[Any], dtype: str, effort: int, interleave: str) -> None:
    if effort not in range(len(EFFORTS)) or interleave not in ("band", "pixel"):
        raise ValueError(f"effort {effort!r} or interleave {interleave!r} is unknown")
    expected = numpy_dtype(dtype) if dtype in DTYPES else None
    if tile.dtype.newbyteorder("=") != expected:
        raise UnsupportedDataError(
            f"a tile of {tile.dtype}: expected the form of {dtype}", dtype=dtype
        )
    parts = tile.size * (2 if tile.dtype.kind == "c" else 1)
    if tile.ndim < 2 or not 0 < parts <= MAX_PIXELS:  # noqa: PLR2004  # row and col
        raise UnsupportedDataError(
            f"a tile of shape {tile.shape}: expected (y, x) last "
            f"and 1 to {MAX_PIXELS} pixels"
        )


def _is_constant(tile: NDArray[Any], parts: NDArray[np.integer[Any]]) -> bool:
    """Whether all pixels have the same bits; one row is looked at first."""
    by_pixel = parts.reshape(-1, 2 if tile.dtype.kind == "c" else 1, *parts.shape[1:])
    first = by_pixel[:1, :, :1, :1]
    return bool(
        (by_pixel[0, :, 0] == first[0, :, 0]).all() and (by_pixel == first).all()
    )


def _read_header(data: bytes | memoryview) -> tuple[TileHeader, bytes | memoryview]:
    info, blocks, offset = flac_stream.unpack_stream(data)
    comments = flac_stream.unpack_comments(blocks)
    side = flac_stream.unpack_application(SIDE_ID, blocks)
    if DTYPE not in comments:
        raise FormatError(f"a FLAC stream without the comment {DTYPE} is no tile")
    numpy_dtype(comments[DTYPE])
    if SHAPE in comments:
        shape = _unpack_shape(comments[SHAPE])
    else:
        shape = _unpack_shape(",".join(comments.get(name, "") for name in SIZES))
    header = TileHeader(
        info=info,
        comments=MappingProxyType(comments),
        shape=shape,
        dtype=comments[DTYPE],
        plan=_unpack_plan(comments.get(TRANSFORMS, "")),
        side_nbytes=len(side),
        frames_offset=offset,
    )
    return header, side


@lru_cache(maxsize=64)
def _unpack_plan(text: str) -> Plan:
    """Parse a plan; the tiles of an array share a few of them."""
    return Plan.unpack(text)


def _shape_comments(shape: tuple[int, ...]) -> dict[str, str]:
    sizes = (math.prod(shape[:-2]), *shape[-2:])
    texts = {name: str(n) for name, n in zip(SIZES, sizes, strict=True)}
    if sizes != shape:
        texts[SHAPE] = ",".join(map(str, shape))
    return texts


def _unpack_shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]{1,10}(,[0-9]{1,10}){1,31}", text):
        raise FormatError(
            f"a tile of shape {text!r:.60}: expected integers, (y, x) last"
        )
    shape = tuple(map(int, text.split(",")))
    if not 0 < math.prod(shape) <= MAX_PIXELS:
        raise FormatError(f"a tile of shape {text}: expected 1 to {MAX_PIXELS} pixels")
    return shape
