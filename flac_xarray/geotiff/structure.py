"""How a GeoTIFF is laid out on disk: what rasterio reports, and how to ask for it.

Strategy: `structure_of` keeps the words of rasterio's profile and GDAL's
IMAGE_STRUCTURE in the header (key ``gdal``); `creation_options` turns them into
options that give the same profile. Compression that may lose bits is never re-applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["creation_options", "structure_of"]

LOSSLESS: Final = frozenset(
    {
        "deflate",
        "lzw",
        "zstd",
        "packbits",
        "lzma",
        "ccittrle",
        "ccittfax3",
        "ccittfax4",
    }
)
"""Compressions that keep every bit of every dtype they accept."""

DEFAULT_BLOCK: Final = 512
TIFF_BLOCK: Final = 16
"""The sides of a TIFF tile are multiples of this."""


def structure_of(dataset: Any) -> dict[str, Any]:
    """Give what rasterio reports of a dataset's layout, as JSON.

    Returns
    -------
    dict
        ``driver``, ``blockxsize``, ``blockysize``, ``tiled``, ``interleave`` and, where
        there is one, ``compress``, ``predictor``, ``nbits``, ``photometric``.
    """
    profile, tags = dataset.profile, dataset.tags(ns="IMAGE_STRUCTURE")
    height, width = dataset.block_shapes[0]
    out: dict[str, Any] = {
        "driver": dataset.driver,
        "blockxsize": width,
        "blockysize": height,
        # rasterio calls a file tiled only when there is more than one tile across.
        "tiled": width != dataset.width or height > dataset.height,
    }
    for key in ("interleave", "compress", "photometric"):
        if key in profile:
            out[key] = str(profile[key])
    if "PREDICTOR" in tags:
        out["predictor"] = int(tags["PREDICTOR"])
    if tags.get("MINISWHITE") == "YES":
        out["photometric"] = "miniswhite"
    nbits = {dataset.tags(i, ns="IMAGE_STRUCTURE").get("NBITS") for i in (1,)}
    if nbits != {None}:
        out["nbits"] = int(nbits.pop())
    return out


def creation_options(
    structure: Mapping[str, Any],
    *,
    dtype: str,
    width: int,
    height: int,
    colorinterp: Sequence[str],
) -> dict[str, Any]:
    """Give the options that make a GeoTIFF with that layout.

    Parameters
    ----------
    structure
        What `structure_of` gave; of another driver, or empty, for our own choice:
        deflate with a predictor, tiles of 512 pixels.
    dtype
        rasterio's name.
    width, height
        Of the file to be written: a window of the original may be asked for.
    colorinterp
        Names per band: they decide what TIFF calls the photometric interpretation.

    Examples
    --------
    >>> source = {"driver": "GTiff", "blockxsize": 7, "blockysize": 3, "tiled": False}
    >>> asked = creation_options(
    ...     source, dtype="uint8", width=7, height=9, colorinterp=["gray"]
    ... )
    >>> asked["photometric"], asked["tiled"], asked["blockysize"]
    ('MINISBLACK', False, 3)
    """
    known = structure.get("driver") in ("GTiff", "COG")
    out: dict[str, Any] = {"bigtiff": "IF_SAFER"}
    out |= _photometric(str(structure.get("photometric")), colorinterp, dtype)
    if not known:
        return out | _own_layout(dtype, width, height)
    out |= _blocks(structure, width, height)
    if "interleave" in structure:
        out["interleave"] = structure["interleave"]
    if "nbits" in structure:
        out["nbits"] = structure["nbits"]
    if structure.get("compress") in LOSSLESS:
        out["compress"] = structure["compress"]
        if "predictor" in structure:
            out["predictor"] = structure["predictor"]
    elif "compress" in structure:
        out |= _own_compression(dtype)
    return out


def _blocks(structure: Mapping[str, Any], width: int, height: int) -> dict[str, Any]:
    x, y = structure["blockxsize"], structure["blockysize"]
    if not structure.get("tiled"):
        return {"tiled": False, "blockysize": min(y, height)}
    if x % TIFF_BLOCK or y % TIFF_BLOCK:
        return _own_blocks(width, height)
    return {"tiled": True, "blockxsize": x, "blockysize": y}


def _own_blocks(width: int, height: int) -> dict[str, Any]:
    if max(width, height) <= DEFAULT_BLOCK:
        return {"tiled": False}
    return {"tiled": True, "blockxsize": DEFAULT_BLOCK, "blockysize": DEFAULT_BLOCK}


def _own_compression(dtype: str) -> dict[str, Any]:
    if "complex" in dtype:
        return {"compress": "deflate"}
    return {"compress": "deflate", "predictor": 3 if "float" in dtype else 2}


def _own_layout(dtype: str, width: int, height: int) -> dict[str, Any]:
    return _own_blocks(width, height) | _own_compression(dtype)


def _photometric(
    reported: str, colorinterp: Sequence[str], dtype: str
) -> dict[str, Any]:
    """Say what the bands are: GDAL guesses RGB for three bytes otherwise."""
    first = list(colorinterp[:4])
    out: dict[str, Any] = {}
    if first[:3] == ["red", "green", "blue"]:
        out["photometric"] = "RGB"
    elif first == ["cyan", "magenta", "yellow", "black"]:
        out["photometric"] = "CMYK"
    elif reported == "miniswhite":
        out["photometric"] = "MINISWHITE"
    elif first[:1] == ["palette"] and dtype in ("uint8", "uint16"):
        out["photometric"] = "PALETTE"
    else:
        out["photometric"] = "MINISBLACK"
    if "alpha" in colorinterp:
        out["alpha"] = "YES"
    return out
