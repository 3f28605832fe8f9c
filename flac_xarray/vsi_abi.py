"""GDAL's C interface for file systems of one's own, through ctypes (cpl_vsi.h).

Strategy: the library is the very one that rasterio is linked with, found by asking the
loader for the symbols that rasterio's extension sees. GDAL allocates the struct of
callbacks itself and only ever appends fields to it, so that the ones named here lie
where they are in every version since 3.0.
"""

from __future__ import annotations

import ctypes as c
from functools import cache
from typing import Any, Final

__all__ = ["Callbacks", "allocate", "cpl_error", "install", "library", "string_list"]

FAILURE: Final = 3
"""GDAL's CE_Failure."""
OPEN_FAILED: Final = 4
"""GDAL's CPLE_OpenFailed."""

_P, _S, _U64, _N, _I = c.c_void_p, c.c_char_p, c.c_uint64, c.c_size_t, c.c_int
Stat = c.CFUNCTYPE(_I, _P, _S, _P, _I)
Unlink = c.CFUNCTYPE(_I, _P, _S)
Rename = c.CFUNCTYPE(_I, _P, _S, _S)
Mkdir = c.CFUNCTYPE(_I, _P, _S, c.c_long)
ReadDir = c.CFUNCTYPE(_P, _P, _S, _I)
Open = c.CFUNCTYPE(_P, _P, _S, _S)
Tell = c.CFUNCTYPE(_U64, _P)
Seek = c.CFUNCTYPE(_I, _P, _U64, _I)
Read = c.CFUNCTYPE(_N, _P, _P, _N, _N)
ReadMany = c.CFUNCTYPE(_I, _P, _I, c.POINTER(_P), c.POINTER(_U64), c.POINTER(_N))
RangeStatus = c.CFUNCTYPE(_I, _P, _U64, _U64)
Whether = c.CFUNCTYPE(_I, _P)
Truncate = c.CFUNCTYPE(_I, _P, _U64)
Siblings = c.CFUNCTYPE(_P, _P, _S)


class Callbacks(c.Structure):
    """``VSIFilesystemPluginCallbacksStruct``; what is left NULL GDAL does without."""

    _fields_ = [
        ("pUserData", _P),
        ("stat", Stat),
        ("unlink", Unlink),
        ("rename", Rename),
        ("mkdir", Mkdir),
        ("rmdir", Unlink),
        ("read_dir", ReadDir),
        ("open", Open),
        ("tell", Tell),
        ("seek", Seek),
        ("read", Read),
        ("read_multi_range", ReadMany),
        ("get_range_status", RangeStatus),
        ("eof", Whether),
        ("write", Read),
        ("flush", Whether),
        ("truncate", Truncate),
        ("close", Whether),
        ("nBufferSize", _N),
        ("nCacheSize", _N),
        ("sibling_files", Siblings),
    ]


@cache
def library() -> Any:
    """Give rasterio's own GDAL.

    Raises
    ------
    OSError
        It does not show the functions: another build, or Windows.
    """
    import rasterio._base

    lib = c.CDLL(rasterio._base.__file__)  # noqa: SLF001 - the one linked with GDAL
    try:
        lib.VSIAllocFilesystemPluginCallbacksStruct.restype = c.POINTER(Callbacks)
        lib.VSIInstallPluginHandler.argtypes = [_S, c.POINTER(Callbacks)]
        lib.CSLAddString.restype = _P
        lib.CSLAddString.argtypes = [_P, _S]
        lib.CPLError.restype = None
    except AttributeError as error:
        msg = f"rasterio's GDAL does not show what a file system needs: {error}"
        raise OSError(msg) from error
    return lib


def allocate() -> Any:
    """Give a struct of callbacks, all NULL; GDAL owns it."""
    return library().VSIAllocFilesystemPluginCallbacksStruct()


def install(prefix: bytes, callbacks: Any) -> None:
    """Make GDAL call these for every path below a prefix.

    GDAL keeps the address of the prefix: the caller keeps the bytes, for ever.

    Raises
    ------
    OSError
        GDAL refuses.
    """
    if library().VSIInstallPluginHandler(prefix, callbacks):
        msg = f"GDAL refuses the file system {prefix!r}"
        raise OSError(msg)


def cpl_error(text: str) -> None:
    """Raise an error inside GDAL, in this thread."""
    # Without arguments: ctypes cannot pass variadic ones on every platform.
    library().CPLError(FAILURE, OPEN_FAILED, text.replace("%", "%%").encode())


def string_list(text: bytes) -> int:
    """Give a list of one string that GDAL frees."""
    return int(library().CSLAddString(None, text))
