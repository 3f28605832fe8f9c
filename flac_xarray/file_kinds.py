"""What files that are not ours begin with, so that an error can say what was found.

Strategy: a table of first bytes. A page of HTML is in it, since that is what many a
wrong URL answers with.
"""

from __future__ import annotations

from typing import Final

__all__ = ["kind_of"]

RASTER: Final = "; flac-raster convert makes a FLAC raster of it"
BEGINNINGS: Final = (
    (b"II*\0", f"a TIFF{RASTER}"),
    (b"MM\0*", f"a TIFF{RASTER}"),
    (b"II+\0", f"a BigTIFF{RASTER}"),
    (b"MM\0+", f"a BigTIFF{RASTER}"),
    (b"\x89PNG", f"a PNG{RASTER}"),
    (b"\xff\xd8\xff", f"a JPEG{RASTER}"),
    (b"\0\0\0\x0cjP  ", f"a JPEG 2000{RASTER}"),
    (b"\x89HDF\r\n\x1a\n", f"HDF5 or netCDF-4{RASTER}"),
    (b"CDF", f"netCDF{RASTER}"),
    (b"GRIB", f"GRIB{RASTER}"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself is elsewhere"),
)
MARKUP: Final = (b"<!doctype html", b"<html", b"<?xml")


def kind_of(start: bytes) -> str | None:
    r"""Say what bytes begin like, None when they begin like nothing known.

    Examples
    --------
    >>> kind_of(b"PK\x03\x04...")
    'a zip archive'
    >>> kind_of(b" <!DOCTYPE html>")
    'a page of HTML or XML: is the address right?'
    >>> kind_of(b"abc") is None
    True
    """
    if not start:
        return "empty"
    if start.lstrip().lower().startswith(MARKUP):
        return "a page of HTML or XML: is the address right?"
    for beginning, kind in BEGINNINGS:
        if start.startswith(beginning):
            return kind
    return None
