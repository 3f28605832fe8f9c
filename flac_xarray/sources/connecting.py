"""Connections to a web server opened before requests need them.

Strategy: after a file's first request the next are several at once, and each new
connection costs a round trip, with TLS two or three, before it can carry one. So a few
are opened while the first request is under way, through aiohttp's own pool and with the
very options of the requests to come, and wait there. This is a head start and nothing
else: whatever goes wrong, the requests themselves will say.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

__all__ = ["connect_ahead"]


IDLE_SECONDS: Final = 15.0
"""How long aiohttp's pool keeps a connection that nobody uses."""

_connected: WeakKeyDictionary[Any, dict[tuple[Any, ...], float]] = WeakKeyDictionary()


class _ConnectedError(Exception):
    """Ends a request that has its connection, before it is sent."""


def _first_in_a_while(session: Any, url: Any) -> bool:
    """Whether a server's connections are not just being made for another file."""
    server = (url.scheme, url.host, url.port)
    now = time.monotonic()
    times = _connected.setdefault(session, {})
    last, times[server] = times.get(server, -math.inf), now
    return now - last > IDLE_SECONDS


async def connect_ahead(
    session: Any, url: Any, options: Mapping[str, Any], count: int
) -> None:
    """Open connections, unless idle ones wait already.

    Parameters
    ----------
    session
        aiohttp's.
    url, options
        As for `ClientSession.get`.
    count
        How many.
    """
    if count < 1 or "middlewares" in options or not _first_in_a_while(session, url):
        return
    timeout = options.get("timeout") or session.timeout

    async def only_connect(request: Any, _: Callable[..., Any]) -> Any:
        # The pool hands out an idle connection if it has one.
        connection = await session.connector.connect(request, [], timeout)
        connection.release()
        raise _ConnectedError

    async def connect() -> None:
        with contextlib.suppress(Exception):  # releases before 3.12 know no middleware
            await session.get(url, **options, middlewares=(only_connect,))

    await asyncio.gather(*(connect() for _ in range(count)))
