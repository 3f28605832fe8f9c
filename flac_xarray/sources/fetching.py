"""Run a plan of requests concurrently, a bounded distance ahead of the consumer.

Strategy: the consumer's thread does the bookkeeping. It starts requests, through a
function that returns a future, hands over what they emit as it arrives, waits for
whichever ends first, and tops up. What is in flight or ended but not yet consumed
counts against both limits, so memory is bounded however slow the consumer. Futures
come from an event loop or from a thread pool: this module does not care.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from flac_xarray.ranges import Request
from flac_xarray.sources.protocol import FetchLimits

__all__ = ["LOOK_SECONDS", "fetch_as_they_arrive"]

T = TypeVar("T")
LOOK_SECONDS: Final = 5.0
"""After how long without an answer somebody looks whether there can be one."""


def fetch_as_they_arrive(
    requests: Sequence[Request],
    submit: Callable[[Request, Callable[[T], None]], Future[None]],
    limits: FetchLimits,
    look: Callable[[], object] = lambda: None,
) -> Generator[T, None, None]:
    """Yield what requests bring, in the order in which it arrives.

    Parameters
    ----------
    requests
        The plan; started in this order.
    submit
        Starts one request; it emits what it has from any thread, as often as it
        likes until its future is done.
    limits
        `concurrency` and `buffer` bound what is under way or waits to be consumed.
    look
        Called while nothing arrives; raises when nothing will.

    Raises
    ------
    SourceError
        Whatever `look` or a future raises; all others are cancelled then, as they are
        when the generator is closed.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> plan = [Request(0, 3, ()), Request(5, 7, ())]
    >>> with ThreadPoolExecutor() as pool:
    ...     fetched = fetch_as_they_arrive(
    ...         plan,
    ...         lambda r, emit: pool.submit(lambda: emit((r.start, r.stop))),
    ...         FetchLimits(),
    ...     )
    ...     sorted(fetched)
    [(0, 3), (5, 7)]
    """
    upcoming = deque(requests)
    flying: dict[Future[None], Request] = {}
    arrived: SimpleQueue[tuple[Future[None] | None, T | None]] = SimpleQueue()
    held = 0

    def emit(what: T) -> None:
        arrived.put((None, what))

    try:
        while upcoming or flying:
            while upcoming and (
                not flying
                or (
                    len(flying) < limits.concurrency
                    and held + upcoming[0].nbytes <= limits.buffer
                )
            ):
                request = upcoming.popleft()
                held += request.nbytes
                future = submit(request, emit)
                flying[future] = request
                # What it emitted is in the queue before this.
                future.add_done_callback(lambda f: arrived.put((f, None)))
            try:
                ended, what = arrived.get(timeout=LOOK_SECONDS)
            except Empty:
                look()
                continue
            if ended is not None:
                held -= flying.pop(ended).nbytes
                ended.result()
                del ended
            else:
                yield what  # type: ignore[misc]
            del what  # the consumer is done with it: do not keep it while waiting
    finally:
        for future in flying:
            future.cancel()
