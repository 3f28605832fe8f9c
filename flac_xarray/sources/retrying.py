"""When to try again, and how long to wait before.

Strategy: one attempt either succeeds, raises `SourceError` (final), or raises
`TransientError`, which holds the `SourceError` to give when the attempts are used up.
The decision is a pure function, so the threaded and the asynchronous loop share it.
"""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from flac_xarray.errors import SourceError
from flac_xarray.sources.protocol import Counters, FetchLimits

__all__ = [
    "SourceNotFoundError",
    "TransientError",
    "delay_before_retry",
    "retry",
    "retry_async",
]

T = TypeVar("T")
LONGEST_BACKOFF = 10.0


class SourceNotFoundError(SourceError, FileNotFoundError):
    """There is no such file, or no such object in the store."""

    # OSError keeps errno outside __dict__; a class attribute survives pickling.
    errno: int | None = errno.ENOENT


class TransientError(Exception):
    """An attempt failed in a way that another attempt may not.

    Attributes
    ----------
    error : SourceError
        What to raise when there is no further attempt.
    retry_after : float or None
        Seconds that the server asks to wait.
    """

    def __init__(self, error: SourceError, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def delay_before_retry(
    failure: TransientError, attempt: int, limits: FetchLimits
) -> float:
    """Give the seconds to wait after a failed attempt.

    Parameters
    ----------
    failure
        What the attempt raised.
    attempt
        Number of the attempt that failed, from 0.
    limits
        Number of retries and first backoff.

    Raises
    ------
    SourceError
        The attempts are used up, or the server asks to wait longer than `timeout`.

    Examples
    --------
    >>> failure = TransientError(SourceError("busy"), retry_after=2.0)
    >>> 2.0 <= delay_before_retry(failure, 0, FetchLimits()) <= 3.0
    True
    """
    error = failure.error
    if attempt >= limits.retries:
        raise _with_note(error, f"gave up after {attempt + 1} attempts")
    backoff = min(limits.backoff * 2.0**attempt, LONGEST_BACKOFF)
    # Jitter keeps clients that were refused together from coming back together.
    jitter = backoff * random.uniform(0.5, 1.5)  # noqa: S311 - no cryptography
    if failure.retry_after is None:
        return jitter
    if failure.retry_after > limits.timeout:
        raise _with_note(error, f"the server asks to wait {failure.retry_after:g} s")
    # The asked time in full, and of the jitter only what spreads the clients.
    return failure.retry_after + min(jitter, 1.0)


def _with_note(error: SourceError, note: str) -> SourceError:
    return type(error)(f"{error} ({note})", **error.__dict__)


def retry(attempt: Callable[[], T], limits: FetchLimits, counters: Counters) -> T:
    """Call `attempt` until it succeeds.

    Raises
    ------
    SourceError
        See `delay_before_retry`.
    """
    number = 0
    while True:
        try:
            return attempt()
        except TransientError as failure:
            wait = _wait(failure, number, limits)
        time.sleep(wait)
        counters.retry()
        number += 1


async def retry_async(
    attempt: Callable[[], Awaitable[T]], limits: FetchLimits, counters: Counters
) -> T:
    """Await `attempt` until it succeeds; see `retry`."""
    number = 0
    while True:
        try:
            return await attempt()
        except TransientError as failure:
            wait = _wait(failure, number, limits)
        await asyncio.sleep(wait)
        counters.retry()
        number += 1


def _wait(failure: TransientError, number: int, limits: FetchLimits) -> float:
    try:
        return delay_before_retry(failure, number, limits)
    except SourceError as error:
        # The cause was judged presentable where the failure was raised.
        raise error from failure.__cause__
