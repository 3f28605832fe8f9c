"""A file on a web server.

Strategy: the session is fsspec's, so storage options (headers, auth, client_kwargs)
work as its users know them; the GET is ours, because fsspec looks at neither the
status line's kind, nor Content-Range, nor the length, nor the ETag. There is never a
HEAD. A server that ignores Range is fine while the file is small: the file is kept.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flac_xarray.errors import SourceError
from flac_xarray.sources.connecting import connect_ahead
from flac_xarray.sources.http_answer import AnswerHead, FileIdentity
from flac_xarray.sources.loop_source import Data, LoopSource
from flac_xarray.sources.retrying import TransientError
from flac_xarray.sources.splitting import PartSplitter

if TYPE_CHECKING:
    import aiohttp

__all__ = ["HttpSource"]

Write = Callable[[bytes], None]


class HttpSource(LoopSource):
    """Bytes of an http or https URL; `open_source` makes one.

    Every answer's status, Content-Range, length and version are checked. Redirects
    are followed. Transient failures are retried, see `FetchLimits`.
    """

    _whole: bytes | None = None
    """The file, once a server that ignores Range has sent all of it."""

    def begin_prefix(self, nbytes: int) -> None:
        """Start what `read_prefix` of as many bytes will give, without waiting."""
        super().begin_prefix(nbytes)
        asyncio.run_coroutine_threadsafe(self._connect(), self._connected().loop)

    async def _connect(self) -> None:
        """Open connections for the requests after the first."""
        fs = self._connected()
        session = await fs.set_session()
        url, options = fs.encode_url(self._path), self._options(fs, 0, 1)
        await connect_ahead(session, url, options, self.limits.spare_connections)

    async def _attempt(self, start: int, stop: int, *, prefix: bool) -> Data:
        body = bytearray()
        if await self._get(start, stop, body.extend, prefix=prefix):
            return self._of_whole(start, stop, prefix=prefix)
        return memoryview(body).toreadonly()

    async def _attempt_parts(self, splitter: PartSplitter, stop: int) -> None:
        start = splitter.restart()
        if await self._get(start, stop, splitter.feed, prefix=False):
            splitter.feed(self._of_whole(start, stop, prefix=False))

    async def _get(self, start: int, stop: int, write: Write, *, prefix: bool) -> bool:
        """Make one request and write the bytes as they arrive.

        Returns
        -------
        bool
            Whether the whole file is here instead, in `_whole`, and nothing written.
        """
        import aiohttp

        if self._whole is not None:
            return True
        fs = self._connected()
        body = _Body(write)
        self.counters.begin()
        try:
            session = await fs.set_session()
            async with (
                asyncio.timeout(self.limits.deadline(stop - start)),
                session.get(
                    fs.encode_url(self._path), **self._options(fs, start, stop)
                ) as answer,
            ):
                head = AnswerHead(answer.status, answer.headers, self.name, start, stop)
                return await self._accept(answer, head, body, prefix=prefix)
        except (
            aiohttp.ClientError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            # aiohttp's RuntimeError: the session is closed, as it is at exit.
            if isinstance(error, SourceError):
                raise
            if isinstance(error, aiohttp.ClientResponseError) and error.headers:
                # With raise_for_status in client_kwargs.
                fields = error.headers
                head = AnswerHead(error.status, fields, self.name, start, stop)
                failure: Exception = _status_error(head)
            else:
                failure = self._failure(error, start, stop, body.nbytes)
        finally:
            self.counters.end(body.nbytes)
        # Not chained: aiohttp's errors show the URL with its secrets.
        raise failure from None

    async def _accept(
        self,
        answer: aiohttp.ClientResponse,
        head: AnswerHead,
        body: _Body,
        *,
        prefix: bool,
    ) -> bool:
        """Judge the answer, then read its body."""
        if prefix and head.is_empty_file:
            self._identity = self._identity.merged(FileIdentity(size=0), self.name)
            return False
        head.raise_for_status()
        if head.is_whole:
            await self._accept_whole(answer, head, body)
            return True
        self._identity = self._identity.merged(head.identity(), self.name)
        expected = head.partial_nbytes(prefix=prefix)
        async for piece in answer.content.iter_any():
            if body.nbytes + len(piece) > expected:
                raise head.long_body(expected)
            body.take(piece)
        if body.nbytes < expected:
            raise head.short_body(expected, body.nbytes)
        return False

    async def _accept_whole(
        self, answer: aiohttp.ClientResponse, head: AnswerHead, body: _Body
    ) -> None:
        """Keep a small file that a server without Range sends, refuse a large one."""
        limit = self.limits.whole_file
        self._identity = self._identity.merged(head.identity(), self.name)
        expected = head.whole_nbytes()
        if expected is not None and expected > limit:
            raise head.refuse_whole(limit)
        whole = bytearray()
        body.write = whole.extend
        async for piece in answer.content.iter_any():
            body.take(piece)
            if body.nbytes > limit:
                raise head.refuse_whole(limit)
        # aiohttp has checked the length if there was one.
        size = FileIdentity(size=len(whole))
        self._identity = self._identity.merged(size, self.name)
        self._whole = bytes(whole)

    def _of_whole(self, start: int, stop: int, *, prefix: bool) -> Data:
        whole = self._whole or b""
        if stop > len(whole) and not prefix:
            raise self._ends_early(start, stop, len(whole))
        return memoryview(whole)[start:stop]

    def _options(self, fs: Any, start: int, stop: int) -> dict[str, Any]:
        """Arguments of the GET: ours, and the user's, who may set a timeout."""
        import aiohttp
        from multidict import CIMultiDict

        options = dict(fs.kwargs)
        headers = CIMultiDict(options.get("headers") or {})
        headers["Range"] = f"bytes={start}-{stop - 1}"
        # A compressed answer has other bytes at other places.
        headers["Accept-Encoding"] = "identity"
        options["headers"] = headers
        if "timeout" not in options and "timeout" not in fs.client_kwargs:
            quiet = self.limits.timeout
            options["timeout"] = aiohttp.ClientTimeout(
                total=None, sock_connect=quiet, sock_read=quiet
            )
        return options

    def _failure(
        self, error: Exception, start: int, stop: int, received: int
    ) -> SourceError | TransientError:
        """Translate what went wrong below HTTP."""
        import aiohttp

        cause = getattr(error, "os_error", error)
        if isinstance(error, TimeoutError):
            why = f"no answer, or a stall, for {self.limits.timeout:g} s"
        elif isinstance(error, TypeError):
            says = self._secrets.clean(str(error))
            why = f"TypeError, as of storage_options that aiohttp does not take: {says}"
        elif type(error) is aiohttp.ClientResponseError:
            why = "the answer is no HTTP"
        else:
            # Not str(error), which may show the URL.
            why = f"{type(error).__name__}{_system_says(cause)}"
        msg = (
            f"{self.name}: bytes [{start}, {stop}): {why}, "
            f"after {received} bytes of body"
        )
        final = SourceError(msg, url=self.name, start=start, stop=stop)
        final_kinds = (
            aiohttp.ClientResponseError,
            aiohttp.ClientSSLError,
            RuntimeError,
            TypeError,
            ValueError,
        )
        hopeless = (
            isinstance(error, final_kinds)
            or getattr(cause, "errno", None) == errno.ECONNREFUSED
            or (isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN)
        )
        return final if hopeless else TransientError(final)


class _Body:
    """Counts the bytes of a body on their way to whoever wants them."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.nbytes = 0

    def take(self, piece: bytes) -> None:
        self.nbytes += len(piece)
        self.write(piece)


def _system_says(cause: Exception) -> str:
    if isinstance(cause, socket.gaierror):
        return f" ({cause.strerror})"
    number: Any = getattr(cause, "errno", None)
    known = isinstance(number, int) and number in errno.errorcode
    return f" ({os.strerror(number)})" if known else ""


def _status_error(head: AnswerHead) -> Exception:
    try:
        head.raise_for_status()
    except (SourceError, TransientError) as error:
        return error
    # Unreachable for a server's error; aiohttp raised it for a status it accepted.
    return TransientError(
        SourceError(f"{head.name}: HTTP {HTTPStatus(head.status).phrase}")
    )
