"""The part that asynchronous sources share: requests as coroutines on fsspec's loop.

Strategy: fsspec keeps one event loop in a thread of its own and its sessions belong to
that loop, so requests run there and the reader's thread waits for futures. State that
answers change (`_identity`) is touched on the loop only and needs no lock. A forked
child has no such thread: it makes a new file system, and keeps the old one alive
unused, because finalising it would close sockets that the parent still reads from. The
loop may end, of lack of memory, or with the interpreter: who waits looks now and then.
"""

from __future__ import annotations

import asyncio
import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from flac_xarray.errors import SourceError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.naming import Secrets, display_name
from flac_xarray.ranges import ByteRange, Request
from flac_xarray.sources.fetching import LOOK_SECONDS, fetch_as_they_arrive
from flac_xarray.sources.http_answer import FileIdentity
from flac_xarray.sources.planned import PlannedSource
from flac_xarray.sources.protocol import FetchLimits, Prefix
from flac_xarray.sources.retrying import retry_async
from flac_xarray.sources.splitting import Emit, PartSplitter

__all__ = ["LoopSource"]

Data = bytes | memoryview
T = TypeVar("T")
_OF_THE_PARENT: list[object] = []


class LoopSource(PlannedSource):
    """Base of the sources whose file system is asynchronous.

    Parameters
    ----------
    fs
        An fsspec file system with ``async_impl``; it carries the storage options.
    path
        The file, as `fs` calls it.
    url
        What the user gave, for the name.
    limits
        How to fetch.
    """

    def __init__(
        self,
        fs: Any,
        path: str,
        *,
        url: str,
        limits: FetchLimits | None = None,
        identity: FileIdentity | None = None,
    ) -> None:
        super().__init__(display_name(url), limits or FetchLimits())
        self._fs = fs
        self._path = path
        self._url = url
        self._identity = identity or FileIdentity()
        self._secrets = Secrets(url, fs.storage_options)
        self._begun: dict[int, Future[Data]] = {}
        self._forked = False
        self._forking = fork_safe_lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # With what is known about the file, so that a worker notices another one.
        state = (self._fs, self._path, self._url, self.limits, self._identity)
        return (_reopen, (type(self), *state))

    @abstractmethod
    async def _attempt(self, start: int, stop: int, *, prefix: bool) -> Data:
        """Make one request.

        Returns
        -------
        bytes-like
            The bytes of ``[start, stop)``; fewer only at the end of a `prefix`.

        Raises
        ------
        TransientError
            Worth another attempt.
        SourceError
            Not worth one.
        """

    @property
    def token(self) -> str | None:
        """What answers so far said of the version of the file; see `Prefix.token`."""
        return self._identity.token

    def begin_prefix(self, nbytes: int) -> None:
        """Start what `read_prefix` of as many bytes will give, without waiting."""
        # There is no Range of no bytes.
        self._begun[nbytes] = self._start(0, max(nbytes, 1), prefix=True)

    def read_prefix(self, nbytes: int) -> Prefix:
        """Read at most `nbytes` from the start; see `Source.read_prefix`."""
        if nbytes not in self._begun:
            self.begin_prefix(nbytes)
        data = self._wait(self._begun.pop(nbytes))
        return Prefix(data[:nbytes], self._identity.size, self._identity.token)

    def _answer(self, start: int, stop: int) -> Data:
        return self._wait(self._start(start, stop, prefix=False))

    def _fetch(
        self, requests: Sequence[Request]
    ) -> Generator[tuple[int, memoryview], None, None]:
        return fetch_as_they_arrive(
            requests, self._start_parts, self.limits, self._look_at_loop
        )

    def _start(self, start: int, stop: int, *, prefix: bool) -> Future[Data]:
        """Start a request on the loop, with its retries."""
        attempt = partial(self._attempt, start, stop, prefix=prefix)
        return self._run(attempt, None if prefix else ByteRange(start, stop))

    def _start_parts(self, request: Request, emit: Emit) -> Future[None]:
        """Start a request of a plan; its parts are emitted as they arrive."""
        splitter = PartSplitter(request, emit)
        attempt = partial(self._attempt_parts, splitter, request.stop)
        return self._run(attempt, ByteRange(request.start, request.stop))

    async def _attempt_parts(self, splitter: PartSplitter, stop: int) -> None:
        """Make one request for what has not been emitted yet."""
        splitter.feed(await self._attempt(splitter.restart(), stop, prefix=False))

    def _run(
        self, attempt: Callable[[], Awaitable[T]], wanted: ByteRange | None
    ) -> Future[T]:
        size = self._identity.size
        if size is not None and wanted is not None and wanted.stop > size:
            raise self._ends_early(wanted.start, wanted.stop, size)
        if sys.is_finalizing():  # then the loop's thread stands still
            msg = f"{self.name}: nothing can be fetched while the interpreter ends"
            raise SourceError(msg, url=self.name)
        loop = self._connected().loop
        self._refuse_own_thread(loop)
        coroutine = retry_async(attempt, self.limits, self.counters)
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def _wait(self, future: Future[Data]) -> Data:
        try:
            while not wait((future,), LOOK_SECONDS).done:
                self._look_at_loop()
            return future.result()
        finally:
            future.cancel()  # of use when Ctrl-C ends the wait

    def _look_at_loop(self) -> None:
        """See whether somebody is there to answer."""
        if not self._fs.loop.is_running():
            msg = (
                f"{self.name}: fsspec's event loop has ended, maybe for lack of "
                "memory: this process cannot fetch any more"
            )
            raise SourceError(msg, url=self.name)

    def _connected(self) -> Any:
        """Give the file system of this process."""
        with self._forking:
            if self._forked:
                _OF_THE_PARENT.append(self._fs)
                old = self._fs
                self._fs = type(old)(*old.storage_args, **old.storage_options)
                self._forked = False
            return self._fs

    def _refuse_own_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        if running is loop:
            msg = f"{self.name}: reading from fsspec's own event loop would wait for it"
            raise SourceError(msg, url=self.name)

    def after_fork(self) -> None:
        """Forget requests and connections of the parent in a forked child."""
        super().after_fork()
        self._begun = {}
        self._forked = True


def _reopen(
    cls: type[LoopSource],
    fs: Any,
    path: str,
    url: str,
    limits: FetchLimits,
    identity: FileIdentity,
) -> LoopSource:
    return cls(fs, path, url=url, limits=limits, identity=identity)
