"""flac-raster's min/max stretch: audio samples back to pixels, as it does it itself.

Strategy: pure arithmetic. flac-raster maps ``DATA_MIN..DATA_MAX`` to -1..1, that to
-32767..32767, and truncates; its reader goes through a WAV file of 16-bit samples,
divides by 32768 and works in float32. Whether a value survives depends on the range, so
the same arithmetic says which files are lossy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import numpy_dtype
from flac_xarray.errors import FormatError
from flac_xarray.legacy.comments import unpack_number

__all__ = ["Stretch", "check_dtype", "lossy_reason", "undo_stretch"]

WAV_BITS: Final = 16
FLAC_BITS: Final = (16, 32)
"""Bits per sample that flac-raster's streams have."""
WAV_RANGE: Final = 65535
"""Widest range whose integers could each have a sample of their own."""
EXACT_FLOAT32: Final = 1 << 23
IDENTITY_RANGE: Final = 65536.0
"""Width of the range whose stretch gives each sample plus a constant, exactly."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The range of values that -1..1 stands for."""

    low: float
    """``GEOSPATIAL_DATA_MIN``."""
    high: float
    """``GEOSPATIAL_DATA_MAX``."""

    @classmethod
    def from_comments(cls, comments: Mapping[str, str]) -> Self | None:
        """Read the two comments; None when the samples are the pixels themselves.

        Raises
        ------
        FormatError
            There is one without the other, or one is no number.

        Examples
        --------
        >>> Stretch.from_comments(
        ...     {"GEOSPATIAL_DATA_MIN": "0.0", "GEOSPATIAL_DATA_MAX": "9"})
        Stretch(low=0.0, high=9.0)
        """
        texts = [comments.get(f"GEOSPATIAL_DATA_{end}", "") for end in ("MIN", "MAX")]
        if not any(texts):
            return None
        low, high = (unpack_number(text, "GEOSPATIAL_DATA_MIN/MAX") for text in texts)
        return cls(low, high)


def check_dtype(dtype: str, bits_per_sample: int) -> None:
    """Refuse what flac-raster does not write.

    Raises
    ------
    FormatError
        Another dtype, or another width of samples.
    """
    if numpy_dtype(dtype).kind not in "iuf" or bits_per_sample not in FLAC_BITS:
        msg = (
            f"{dtype} pixels in {bits_per_sample}-bit FLAC samples: expected integers "
            f"or floats in 16 or 32 bits, as flac-raster writes them"
        )
        raise FormatError(msg)


def undo_stretch(
    samples: NDArray[Any], bits_per_sample: int, dtype: str, stretch: Stretch | None
) -> NDArray[Any]:
    """Turn FLAC samples into pixels of `dtype`, in the same shape.

    Raises
    ------
    FormatError
        `check_dtype` refuses, or there is no stretch and a sample is no pixel.

    Examples
    --------
    >>> samples = np.array([-32767, 0, 32767], np.int16)
    >>> undo_stretch(samples, 16, "uint8", Stretch(0.0, 250.0)).tolist()
    [0, 125, 250]
    """
    check_dtype(dtype, bits_per_sample)
    target = numpy_dtype(dtype)
    if stretch is None:
        return _as_they_are(samples, target)
    if bits_per_sample > WAV_BITS:
        # The WAV file holds 16 bits: the lower half of each sample is lost there.
        samples = samples >> (bits_per_sample - WAV_BITS)
    norm = samples.astype(np.float32)
    with np.errstate(all="ignore"):
        norm /= 32768.0
        if target.kind == "f":
            return norm.astype(target)
        # One operation after another in float32: the order decides the last bit.
        norm += 1.0
        norm /= 2.0
        norm *= stretch.high - stretch.low
        norm += stretch.low
        return np.round(norm, out=norm).astype(target)


def _as_they_are(samples: NDArray[Any], target: np.dtype[np.generic]) -> NDArray[Any]:
    if target.kind not in "iu":
        msg = f"{target} pixels without GEOSPATIAL_DATA_MIN/MAX: their scale is unknown"
        raise FormatError(msg)
    limits = np.iinfo(target.name)
    if samples.size and not (
        limits.min <= samples.min() and samples.max() <= limits.max
    ):
        msg = f"samples {samples.min()} to {samples.max()} are no {target} pixels"
        raise FormatError(msg)
    return samples.astype(target)


@lru_cache(maxsize=256)
def lossy_reason(
    dtype: str, bits_per_sample: int, stretch: Stretch | None
) -> str | None:
    """Say why pixels that flac-raster wrote need not be the original ones.

    Returns
    -------
    str or None
        None where every integer in the range comes back.

    Examples
    --------
    >>> lossy_reason("uint8", 16, Stretch(0.0, 255.0)) is None
    True
    >>> lossy_reason("uint16", 16, Stretch(0.0, 60000.0))
    'flac-raster stretched uint16 values to 16-bit samples: not all come back'
    """
    if stretch is None:
        return None
    if numpy_dtype(dtype).kind == "f":
        return (
            f"flac-raster cast {dtype} values to integers and gives back their upper "
            "bits only: the values are lost"
        )
    if _is_exact(dtype, bits_per_sample, stretch):
        return None
    lost = "not all come back" if bits_per_sample == WAV_BITS else "most are lost"
    return (
        f"flac-raster stretched {dtype} values to {bits_per_sample}-bit samples: {lost}"
    )


def _is_exact(dtype: str, bits_per_sample: int, stretch: Stretch) -> bool:
    """Stretch and restore every integer of the range."""
    low, high = stretch.low, stretch.high
    limits = np.iinfo(dtype)
    width = high - low
    if width == 0:
        return bool(np.float32(low) == low)
    if bits_per_sample == WAV_BITS and width == IDENTITY_RANGE:
        return low.is_integer() and abs(low) < EXACT_FLOAT32
    # flac-raster subtracts in the raster's own dtype, where a wide range wraps.
    is_narrow = 0 < width <= (limits.max if limits.min else WAV_RANGE)
    if bits_per_sample != WAV_BITS or not is_narrow or width > WAV_RANGE:
        return False
    if not (low.is_integer() and high.is_integer()):
        return False
    values = np.arange(int(low), int(high) + 1)
    samples = ((2.0 * (values - low) / width - 1.0) * 32767).astype(np.int16)
    return bool(
        (undo_stretch(samples, bits_per_sample, dtype, stretch) == values).all()
    )
