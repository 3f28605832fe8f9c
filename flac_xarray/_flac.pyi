from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

def encode(
    samples: NDArray[Any],
    itemsize: int,
    channels: int,
    bits: int,
    blocksize: int,
    level: int,
    /,
) -> tuple[bytes, int, int]: ...
def count(
    samples: NDArray[Any],
    itemsize: int,
    channels: int,
    bits: int,
    blocksize: int,
    level: int,
    /,
) -> int: ...
def decode(
    frames: bytes | memoryview,
    out: NDArray[Any],
    itemsize: int,
    channels: int,
    bits: int,
    max_blocksize: int,
    is_checked: bool,
    layout: int,
    update: Callable[[bytes], None] | None,
    /,
) -> tuple[int, str | None]: ...
def undo_rows(
    residual: NDArray[Any],
    values: NDArray[Any],
    is_signed: bool,
    predictor: int,
    /,
) -> None: ...
def predict_rows(
    values: NDArray[Any],
    residual: NDArray[Any],
    valid: NDArray[Any] | None,
    is_signed: bool,
    predictor: int,
    /,
) -> None: ...
