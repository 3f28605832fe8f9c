"""The errors of flac_xarray: whose fault, where, what was expected and what was found.

Strategy: every class shares ``FlacRasterError`` and a builtin, so callers may catch
either. ``FormatError`` means the *file* is wrong and is never raised for a caller's
mistake. Translation from library errors happens once, at the boundary, with
``raise ... from``.
"""

from __future__ import annotations

__all__ = [
    "ArrayNotFoundError",
    "CorruptTileError",
    "FlacRasterError",
    "FormatError",
    "LossyFileWarning",
    "ManyTilesWarning",
    "NotFlacRasterError",
    "NotLosslessError",
    "RangeNotSupportedError",
    "RechunkWarning",
    "SourceChangedError",
    "SourceError",
    "TruncatedError",
    "UnsupportedDataError",
    "UnsupportedVersionError",
    "WindowError",
]


class FlacRasterError(Exception):
    """Base of every error this package raises on purpose."""

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        for name, value in details.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the details, so errors cross process boundaries whole."""
        return (_rebuild, (type(self), str(self), dict(self.__dict__)))


def _rebuild(
    cls: type[FlacRasterError], message: str, details: dict[str, object]
) -> FlacRasterError:
    return cls(message, **details)


class FormatError(FlacRasterError, ValueError):
    """The file is not what the format says it must be."""


class NotFlacRasterError(FormatError):
    """The bytes do not begin like a FLAC raster.

    Attributes
    ----------
    found : bytes
        The first bytes that were seen.
    """

    found: bytes = b""


class UnsupportedVersionError(FormatError):
    """The file was written by a newer major version of the format.

    Attributes
    ----------
    found : str
        The version the file declares.
    """

    found: str = ""


class TruncatedError(FormatError):
    """The file ends before something that it promises.

    Attributes
    ----------
    what : str
        The part that is cut off.
    expected, found : int
        Bytes needed and bytes there.
    """

    what: str = ""
    expected: int = 0
    found: int = 0


class CorruptTileError(FormatError):
    """One tile's bytes are damaged: checksum, MD5, or the decoder's complaint.

    Attributes
    ----------
    tile : tuple of int or None
        Index of the tile in its array, one entry per dimension.
    offset : int or None
        Byte offset of the tile in the file.
    """

    tile: tuple[int, ...] | None = None
    offset: int | None = None


class UnsupportedDataError(FlacRasterError, TypeError):
    """The array cannot be stored as it is: dtype, shape, dims, CRS.

    Attributes
    ----------
    dtype : str
        The dtype that was given, when that is the reason.
    """

    dtype: str = ""


class WindowError(FlacRasterError, IndexError):
    """The request lies outside the raster."""


class ArrayNotFoundError(FlacRasterError, KeyError):
    """The file has no array of that name at that level.

    Attributes
    ----------
    name : str or None
        What was asked for; None for whichever is first.
    level : int
        At which overview level.
    arrays : tuple of (str, int)
        Names and levels of those there are.
    """

    name: str | None = None
    level: int = 0
    arrays: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        """Give the message alone: KeyError would put it in quotes."""
        return str(self.args[0]) if self.args else ""


class NotLosslessError(FlacRasterError, RuntimeError):
    """A tile did not come back from its own stream: a bug of the encoder.

    Attributes
    ----------
    tile : tuple of int
        Index of the tile in its array.
    """

    tile: tuple[int, ...] = ()


class SourceError(FlacRasterError, OSError):
    """Bytes could not be had.

    Attributes
    ----------
    url : str
        What was read, without credentials.
    start, stop : int or None
        The half-open byte range that was asked for.
    status : int or None
        HTTP status, where there is one.
    """

    url: str = ""
    start: int | None = None
    stop: int | None = None
    status: int | None = None

    def __str__(self) -> str:
        """Give the message alone: OSError would show an errno."""
        return str(self.args[0]) if self.args else ""


class RangeNotSupportedError(SourceError):
    """The server answered a Range request with something else than that range."""


class SourceChangedError(SourceError):
    """The file was replaced between two reads of one session."""


class LossyFileWarning(UserWarning):
    """The file's own writer lost values: what is read is all that there is."""


class RechunkWarning(UserWarning):
    """Chunks do not consist of whole tiles, so that they are held and copied."""


class ManyTilesWarning(UserWarning):
    """A dask array has so many chunks that dask itself becomes slow."""
