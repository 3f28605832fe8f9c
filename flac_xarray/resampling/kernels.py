"""Bilinear, cubic, B-spline, Lanczos and Gauss: sums with the weights of a kernel.

Strategy: kernels are stretched to the target's pixels, as in GDAL's overviews, and
applied along x, then along y. Void pixels weigh nothing; where a kernel with negative
weights sees too few valid pixels in a row, the target is void.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.resampling.axis import Filter, Taps
from flac_xarray.resampling.rounding import next_to_nodata, pixels_of, work_dtype
from flac_xarray.resampling.sums import shaped, sum_along
from flac_xarray.resampling.windows import Block

__all__ = ["KERNELS", "convolve", "gauss"]

OPAQUE: Final = 255.0
"""What a valid pixel weighs in a mask."""


def _bilinear(x: NDArray[Any]) -> NDArray[Any]:
    weights: NDArray[Any] = np.where(np.abs(x) <= 1, 1 - np.abs(x), 0.0)
    return weights


def _cubic(x: NDArray[Any]) -> NDArray[Any]:
    a = np.abs(x)
    near = x * x * (1.5 * a - 2.5) + 1
    far = x * x * (-0.5 * a + 2.5) - 4 * a + 2
    weights: NDArray[Any] = np.where(a <= 1, near, np.where(a <= 2, far, 0.0))  # noqa: PLR2004
    return weights


def _cubic_spline(x: NDArray[Any]) -> NDArray[Any]:
    def cube(v: NDArray[Any]) -> NDArray[Any]:
        positive = np.maximum(v, 0.0)
        cubed: NDArray[Any] = positive * positive * positive
        return cubed

    total = -4 * cube(x - 1) + 6 * cube(x) + -4 * cube(x + 1) + cube(x + 2)
    weights: NDArray[Any] = np.where(np.abs(x) < 2, total * (1 / 6), 0.0)  # noqa: PLR2004
    return weights


def _lanczos(x: NDArray[Any]) -> NDArray[Any]:
    weights: NDArray[Any] = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)  # noqa: PLR2004
    return weights


KERNELS: Final[dict[str, tuple[int, Filter, bool]]] = {
    "bilinear": (1, _bilinear, False),
    "cubic": (2, _cubic, True),
    "cubic_spline": (2, _cubic_spline, False),
    "lanczos": (3, _lanczos, True),
}
"""Radius, weights, and whether some of them are negative."""


def convolve(
    block: Block, *, negative: bool, most: float | None = None
) -> NDArray[Any]:
    """Give the weighted mean of the pixels within a kernel.

    Parameters
    ----------
    block
        The pixels; its taps have the kernel's weights.
    negative
        Whether some weights are negative.
    most
        The largest value a pixel may have, where its dtype would hold more.
    """
    dtype = block.pixels.dtype
    work = work_dtype(dtype)
    values = block.pixels.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if block.valid is None:
            total = _unmasked(values, block)
            some = np.ones(total.shape, bool)
        else:
            opacity = block.valid.astype(np.float64)
            if block.valid.dtype == bool:
                opacity *= OPAQUE
            weights = np.broadcast_to(opacity, values.shape)
            row_by_row = _masked(
                values, weights, block.cols, block.origin[1], 2, negative
            )
            total, some = _masked(*row_by_row, block.rows, block.origin[0], 1, negative)
        out = total.astype(work)
    if block.nodata is not None:
        out = _off_nodata(out, block.nodata, dtype)
    if most is not None:
        out = np.minimum(out, work.type(most))
    pixels = pixels_of(out, dtype)
    pixels[~some] = block.fill
    return pixels


def _unmasked(values: NDArray[Any], block: Block) -> NDArray[Any]:
    def apply(values: NDArray[Any], taps: Taps, origin: int, axis: int) -> NDArray[Any]:
        total = np.where(taps.total == 0, 1.0, taps.total)
        weights = taps.weights * (1.0 / total)[:, None]
        return sum_along(values, taps, weights, origin, axis)

    across = apply(values, block.cols, block.origin[1], 2)
    return apply(across, block.rows, block.origin[0], 1)


def _masked(
    values: NDArray[Any],
    opacity: NDArray[Any],
    taps: Taps,
    origin: int,
    axis: int,
    negative: bool,  # noqa: FBT001
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Apply a kernel along one axis; give the result, and where there is one."""
    seen = np.where(opacity != 0, values, 0.0) * opacity
    total = sum_along(seen, taps, taps.weights, origin, axis)
    weight = sum_along(opacity, taps, taps.weights, origin, axis)
    some = weight > 0
    if negative:
        some &= _longest_run(opacity != 0, taps, origin, axis) >= shaped(
            taps.count // 2, axis
        )
    mean = np.divide(total, weight, out=np.zeros_like(total), where=some)
    return mean, some


def _longest_run(
    valid: NDArray[np.bool_], taps: Taps, origin: int, axis: int
) -> NDArray[Any]:
    """Give the most valid pixels in a row that a kernel sees."""
    run = longest = np.zeros((), np.int32)
    for k in range(taps.weights.shape[1]):
        at = taps.start + np.minimum(k, taps.count - 1) - origin
        here = np.take(valid, at, axis)
        here = here & shaped(taps.count > k, axis)
        run = np.where(here, run + 1, 0)
        longest = np.maximum(longest, run)
    return longest


def _off_nodata(out: NDArray[Any], nodata: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Replace results that would become nodata by chance."""
    instead = out.dtype.type(next_to_nodata(nodata, dtype))
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        out = np.clip(out, out.dtype.type(limits.min), out.dtype.type(limits.max))
        return np.where(out == out.dtype.type(nodata), instead, out)
    chance = pixels_of(out, dtype) == nodata
    return np.where(chance, instead, out)


def gauss(block: Block) -> NDArray[Any]:
    """Give the mean of the valid pixels with binomial weights."""
    values = block.pixels.astype(np.float64)
    valid = np.ones((1, 1, 1), bool) if block.valid is None else block.valid != 0
    valid = np.broadcast_to(valid, values.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        seen = np.where(valid, values, 0.0)
        parts: list[NDArray[Any]] = []
        for array in (seen, valid.astype(np.float64)):
            rows = sum_along(array, block.cols, block.cols.weights, block.origin[1], 2)
            parts.append(
                sum_along(rows, block.rows, block.rows.weights, block.origin[0], 1)
            )
        total, weight = parts
        some = weight > 0
        mean = np.divide(total, weight, out=np.zeros_like(total), where=some)
    out = pixels_of(mean, block.pixels.dtype)
    out[~some] = block.fill
    return out
