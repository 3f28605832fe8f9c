"""The part that the object stores share: one request, and the checks of its answer.

Strategy: fsspec's file systems of S3, Google and Azure drop an answer's header fields.
The same call one step below gives them, so that the size comes with the first answer
and a replaced object is noticed, by the checks that HTTP has. A subclass makes that
call; the judging is here.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from http import HTTPStatus

from flac_xarray.errors import SourceError
from flac_xarray.sources.fsspec_source import translate_error
from flac_xarray.sources.http_answer import AnswerHead, FileIdentity
from flac_xarray.sources.loop_source import Data, LoopSource
from flac_xarray.sources.retrying import SourceNotFoundError, TransientError

__all__ = ["Accept", "StoreSource"]

Accept = Callable[[Mapping[str, str | None]], None]


class StoreSource(LoopSource):
    """Base of the sources of object stores."""

    @abstractmethod
    async def _get(self, start: int, stop: int, accept: Accept) -> bytes:
        """Make one request for ``[start, stop)`` and give the body.

        `accept` takes the answer's header fields, those of other names than HTTP's
        under HTTP's, and raises where they are not those of a partial answer with this
        range of this version.
        """

    @abstractmethod
    def _status_of(self, error: Exception) -> int | None:
        """Give the HTTP status behind an error of the file system, if there is one."""

    async def _attempt(self, start: int, stop: int, *, prefix: bool) -> Data:
        accepted: list[AnswerHead] = []

        def accept(fields: Mapping[str, str | None]) -> None:
            told = {name: text for name, text in fields.items() if text}
            head = AnswerHead(206, told, self.name, start, stop)
            self._identity = self._identity.merged(head.identity(), self.name)
            head.partial_nbytes(prefix=prefix)
            accepted[:] = [head]

        data: bytes = b""
        self.counters.begin()
        try:
            async with asyncio.timeout(self.limits.deadline(stop - start)):
                data = await self._get(start, stop, accept)
        except (SourceError, TransientError):
            raise
        except Exception as error:  # noqa: BLE001 - they raise what they like
            status = self._status_of(error)
            if prefix and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                # No first byte can be had: that is how a store says there is none.
                self._identity = self._identity.merged(FileIdentity(size=0), self.name)
                return b""
            failure = self._failure(error, status, start, stop)
            raise failure from self._secrets.presentable(error)
        finally:
            self.counters.end(len(data))
        expected = accepted[0].partial_nbytes(prefix=prefix)
        if len(data) < expected:
            raise accepted[0].short_body(expected, len(data))
        if len(data) > expected:
            raise accepted[0].long_body(expected)
        return data

    def _failure(
        self, error: Exception, status: int | None, start: int, stop: int
    ) -> SourceError | TransientError:
        if status == HTTPStatus.NOT_FOUND and not isinstance(error, FileNotFoundError):
            msg = f"{self.name}: bytes [{start}, {stop}): there is no such file"
            failure: SourceError | TransientError = SourceNotFoundError(
                msg, url=self.name, start=start, stop=stop
            )
        else:
            failure = translate_error(error, self.name, start, stop, self._secrets)
        final = failure.error if isinstance(failure, TransientError) else failure
        final.status = status
        return failure
