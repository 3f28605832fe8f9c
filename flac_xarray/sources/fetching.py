"""Run a plan of requests concurrently, a bounded distance ahead of the consumer.

Strategy: the consumer's thread does the bookkeeping. It starts requests, through a
function that returns a future, waits for whichever ends first, tops up, and hands
over. What is in flight or ended but not yet consumed counts against both limits, so
memory is bounded however slow the consumer. Futures come from an event loop or from a
thread pool: this module does not care.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

from flac_xarray.ranges import Request
from flac_xarray.sources.protocol import FetchLimits

__all__ = ["fetch_as_they_arrive"]

T = TypeVar("T")


def fetch_as_they_arrive(
    requests: Sequence[Request],
    submit: Callable[[Request], Future[T]],
    limits: FetchLimits,
) -> Generator[tuple[Request, T], None, None]:
    """Yield each request with its result, in the order in which they end.

    Parameters
    ----------
    requests
        The plan; started in this order.
    submit
        Starts one request.
    limits
        `concurrency` and `buffer` bound what is under way or waits to be consumed.

    Raises
    ------
    SourceError
        Whatever a future raises; all others are cancelled then, as they are when the
        generator is closed.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> plan = [Request(0, 3, ()), Request(5, 7, ())]
    >>> with ThreadPoolExecutor() as pool:
    ...     fetched = fetch_as_they_arrive(
    ...         plan, lambda r: pool.submit(range, r.start, r.stop), FetchLimits()
    ...     )
    ...     sorted(list(data) for _, data in fetched)
    [[0, 1, 2], [5, 6]]
    """
    upcoming = deque(requests)
    flying: dict[Future[T], Request] = {}
    ended: SimpleQueue[Future[T]] = SimpleQueue()
    held = 0
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
                future = submit(request)
                flying[future] = request
                future.add_done_callback(ended.put)
            future = ended.get()
            request = flying.pop(future)
            held -= request.nbytes
            data = future.result()
            del future  # it holds the data too
            yield request, data
            del data  # the consumer is done with it: do not keep it while waiting
    finally:
        for future in flying:
            future.cancel()
