"""A file of any fsspec file system: buckets, archives, caches, memory.

Strategy: an asynchronous file system runs many `_cat_file` at once on fsspec's loop.
A synchronous one is asked for one range at a time, by all its sources together, because
few of them may be used from several threads (an FTP connection, an archive, a cache
that downloads on first use); whoever knows better passes limits with a `concurrency`.
Lengths are checked always. What the file system retries itself is not retried again,
only what it lets through: timeouts, broken connections, short bodies.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from flac_xarray.crew import Crew
from flac_xarray.errors import SourceError
from flac_xarray.forking import fork_safe_lock
from flac_xarray.naming import Secrets, display_name
from flac_xarray.ranges import Request
from flac_xarray.sources.loop_source import Data, LoopSource
from flac_xarray.sources.planned import PlannedSource, cut
from flac_xarray.sources.protocol import FetchLimits, Prefix
from flac_xarray.sources.retrying import SourceNotFoundError, TransientError, retry

__all__ = ["LOCKS", "BlockingFsspecSource", "FsspecSource", "translate_error"]


class FsspecSource(LoopSource):
    """Bytes of a file of an asynchronous file system; `open_source` makes one."""

    async def _attempt(self, start: int, stop: int, *, prefix: bool) -> Data:
        data: bytes = b""
        self.counters.begin()
        try:
            async with asyncio.timeout(self.limits.deadline(stop - start)):
                answer = await self._connected()._cat_file(  # noqa: SLF001 - its API
                    self._path, start=start, end=stop
                )
                data = answer or b""  # None from old reference file systems
        except Exception as error:  # noqa: BLE001 - they raise what they like
            failure = translate_error(error, self.name, start, stop, self._secrets)
            raise failure from self._secrets.presentable(error)
        finally:
            self.counters.end(len(data))
        _check_length(data, self.name, start, stop, prefix=prefix)
        return data


class BlockingFsspecSource(PlannedSource):
    """Bytes of a file of a synchronous file system; `open_source` makes one."""

    def __init__(
        self, fs: Any, path: str, *, url: str, limits: FetchLimits | None = None
    ) -> None:
        alone = replace(FetchLimits(), concurrency=1)
        super().__init__(display_name(url), limits or alone)
        self._fs = fs
        self._path = path
        self._url = url
        self._secrets = Secrets(url, fs.storage_options)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self._fs, self._path, self._url, self.limits))

    def read_prefix(self, nbytes: int) -> Prefix:
        """Read at most `nbytes` from the start; see `Source.read_prefix`."""
        data = self._alone(0, nbytes, prefix=True)
        return Prefix(data, len(data) if len(data) < nbytes else None, None)

    def _answer(self, start: int, stop: int) -> Data:
        if self.limits.concurrency > 1:
            return self._read(start, stop, prefix=False)
        return self._alone(start, stop, prefix=False)

    def _fetch(
        self, requests: Sequence[Request]
    ) -> Generator[tuple[int, memoryview], None, None]:
        workers = min(self.limits.concurrency, len(requests))
        if workers <= 1:
            yield from super()._fetch(requests)
            return
        flying: deque[Request] = deque()
        held = 0
        crew: Crew[Data] = Crew(workers, waits=False)
        with crew:
            for request in requests:
                while flying and (
                    len(flying) >= workers or held + request.nbytes > self.limits.buffer
                ):
                    held -= flying[0].nbytes
                    yield from cut(flying.popleft().parts, memoryview(crew.take()))
                flying.append(request)
                held += request.nbytes
                crew.put(self._answer, request.start, request.stop)
            while flying:
                yield from cut(flying.popleft().parts, memoryview(crew.take()))

    def _alone(self, start: int, stop: int, *, prefix: bool) -> Data:
        with LOCKS.of(self._fs):
            return self._read(start, stop, prefix=prefix)

    def _read(self, start: int, stop: int, *, prefix: bool) -> Data:
        return retry(
            lambda: self._attempt(start, stop, prefix=prefix),
            self.limits,
            self.counters,
        )

    def _attempt(self, start: int, stop: int, *, prefix: bool) -> Data:
        data: bytes = b""
        self.counters.begin()
        try:
            data = self._fs.cat_file(self._path, start=start, end=stop)
        except Exception as error:  # noqa: BLE001 - they raise what they like
            raised = error
            if isinstance(error, KeyError) and not self._fs.exists(self._path):
                raised = FileNotFoundError(self._path)  # what older archives mean
            failure = translate_error(raised, self.name, start, stop, self._secrets)
            raise failure from self._secrets.presentable(error)
        finally:
            self.counters.end(len(data))
        if len(data) < stop - start and not prefix:
            # Read from an open file, so this is its end, not a broken connection.
            raise self._ends_early(start, stop, start + len(data))
        _check_length(data, self.name, start, stop, prefix=prefix)
        return data


class Locks:
    """One lock a file system: the sources of an archive's files share its position."""

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
        self._looking = fork_safe_lock()

    def of(self, fs: Any) -> threading.Lock:
        """Give the lock of a file system; equal ones have the same."""
        with self._looking:
            return self._locks.setdefault(fs, fork_safe_lock())


LOCKS = Locks()


def translate_error(
    error: Exception, name: str, start: int, stop: int, secrets: Secrets
) -> SourceError | TransientError:
    """Turn what a file system raised into one of ours."""
    import aiohttp  # most asynchronous file systems let its errors through

    where = {"url": name, "start": start, "stop": stop}
    prefix = f"{name}: bytes [{start}, {stop})"
    if isinstance(error, FileNotFoundError):
        return SourceNotFoundError(f"{prefix}: there is no such file", **where)
    text = secrets.clean(str(error))
    final = SourceError(f"{prefix}: {type(error).__name__}: {text}", **where)
    broken = (TimeoutError, ConnectionError, aiohttp.ClientConnectionError)
    if isinstance(error, (*broken, aiohttp.ClientPayloadError)):
        return TransientError(final)
    return final


def _check_length(
    data: bytes, name: str, start: int, stop: int, *, prefix: bool
) -> None:
    expected = stop - start
    if len(data) == expected or (prefix and len(data) < expected):
        return
    msg = f"{name}: bytes [{start}, {stop}): {len(data)} bytes came, not {expected}"
    error = SourceError(msg, url=name, start=start, stop=stop)
    raise TransientError(error) if len(data) < expected else error


def _reopen(
    cls: type[BlockingFsspecSource], fs: Any, path: str, url: str, limits: FetchLimits
) -> BlockingFsspecSource:
    return cls(fs, path, url=url, limits=limits)
