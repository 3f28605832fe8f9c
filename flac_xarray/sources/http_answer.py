"""What the head of an HTTP answer says about a Range request (RFC 9110, section 14).

Strategy: pure. Status and headers go in; out comes what the body will be, or the error.
Every answer is judged here, so bytes of another range, of another version of the file
or of an error page cannot be taken for the file's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar

from flac_xarray.errors import (
    RangeNotSupportedError,
    SourceChangedError,
    SourceError,
)
from flac_xarray.sources.retrying import SourceNotFoundError, TransientError

__all__ = ["AnswerHead", "FileIdentity"]

E = TypeVar("E", bound=SourceError)
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", re.IGNORECASE)
RETRIED = frozenset({408, 425, 429})
SERVER_ERRORS = range(500, 600)
HINTS = {
    401: "credentials are missing or wrong: give them in storage_options",
    403: "access is denied: check the credentials in storage_options",
    407: "the proxy wants credentials",
    416: "the file ends before this range: was it replaced or cut off?",
}


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What an answer says about the version of the file; None where it is silent."""

    etag: str | None = None
    """Entity tag, without the mark of weakness."""
    modified: str | None = None
    """Last-Modified, as sent."""
    size: int | None = None
    """Bytes of the whole file."""
    generation: str | None = None
    """Google Cloud Storage's number of the version."""

    @property
    def token(self) -> str | None:
        """One string that changes when the file does, if the server tells."""
        return self.generation or self.etag or self.modified

    def merged(self, later: FileIdentity, name: str) -> FileIdentity:
        """Add what a later answer says.

        Raises
        ------
        SourceChangedError
            The two answers speak of different files.

        Examples
        --------
        >>> FileIdentity('"a"').merged(FileIdentity(None, None, 7), "x")
        FileIdentity(etag='"a"', modified=None, size=7, generation=None)
        """
        for what, before, now in (
            ("generation", self.generation, later.generation),
            ("ETag", self.etag, later.etag),
            ("Last-Modified", self.modified, later.modified),
            ("size", self.size, later.size),
        ):
            if before is not None and now is not None and before != now:
                msg = (
                    f"{name}: the file was replaced while it was being read "
                    f"({what} was {before}, is {now}): open it again"
                )
                raise SourceChangedError(msg, url=name)
        return FileIdentity(
            self.etag or later.etag,
            self.modified or later.modified,
            later.size if self.size is None else self.size,
            self.generation or later.generation,
        )


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Status and headers of one answer to a request for ``[start, stop)``."""

    status: int
    headers: Mapping[str, str]
    name: str
    """What to call the file in errors."""
    start: int
    stop: int

    def raise_for_status(self) -> None:
        """Accept 200 and 206.

        Raises
        ------
        TransientError
            The server may answer better next time: 408, 425, 429, 5xx.
        SourceError
            It will not: any other status.
        """
        if self.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        error = self._error(SourceError, HINTS.get(self.status, self._phrase()))
        if self.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise self._error(SourceNotFoundError, "there is no such file")
        if self.status in RETRIED or self.status in SERVER_ERRORS:
            raise TransientError(error, self._retry_after())
        raise error

    @property
    def is_whole(self) -> bool:
        """Whether the body is the whole file, because the server ignored Range."""
        return self.status == HTTPStatus.OK

    @property
    def is_empty_file(self) -> bool:
        """Whether this is how a server says that a file has no bytes at all."""
        return (
            self.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            and self.headers.get("Content-Range", "").endswith("*/0")
        )

    def identity(self) -> FileIdentity:
        """Give what the headers say about the version of the file."""
        etag = self.headers.get("ETag")
        return FileIdentity(
            etag and etag.removeprefix("W/"),
            self.headers.get("Last-Modified"),
            self.whole_nbytes() if self.is_whole else self._content_range()[2],
            self.headers.get("X-Goog-Generation"),
        )

    def whole_nbytes(self) -> int | None:
        """Bytes of a body that is the whole file; None when it is not said."""
        length = self.headers.get("Content-Length", "")
        coded = self._coding != "identity"
        return int(length) if length.isdigit() and not coded else None

    def partial_nbytes(self, *, prefix: bool) -> int:
        """Bytes that the body of a 206 must have.

        Parameters
        ----------
        prefix
            Whether the file may end before `stop`.

        Raises
        ------
        RangeNotSupportedError
            The answer is not the range that was asked for, or is compressed.
        SourceError
            The file ends before `stop`.
        """
        first, last, size = self._content_range()
        if size is not None and size < self.stop and not prefix:
            raise self._error(SourceError, f"the file has {size} bytes")
        stop = self.stop if size is None else min(self.stop, size)
        cut_prefix = prefix and size is None and last < stop
        if first != self.start or (last + 1 != stop and not cut_prefix):
            why = f"the server answered with bytes [{first}, {last + 1})"
            raise self._error(RangeNotSupportedError, why)
        return last + 1 - first

    def refuse_whole(self, limit: int) -> RangeNotSupportedError:
        """Give the error for a server that sends the whole of a large file."""
        size = self.whole_nbytes()
        much = "a file of unknown size" if size is None else f"all {size} bytes"
        why = (
            f"the server ignores Range and would send {much}, the limit is {limit}: "
            "download the file, or use a server with range requests"
        )
        return self._error(RangeNotSupportedError, why)

    def short_body(self, expected: int, found: int) -> TransientError:
        """Give the failure of a body that ended early."""
        why = f"the body ended after {found} of {expected} bytes"
        return TransientError(self._error(SourceError, why))

    def long_body(self, expected: int) -> SourceError:
        """Give the error for a body that goes on."""
        why = f"the body has more than the {expected} bytes it should have"
        return self._error(RangeNotSupportedError, why)

    @property
    def _coding(self) -> str:
        """How the body is compressed; case does not count (RFC 9110, 8.4.1)."""
        return self.headers.get("Content-Encoding", "").lower() or "identity"

    def _content_range(self) -> tuple[int, int, int | None]:
        if self._coding != "identity":
            how = f"the server compresses ranges ({self._coding})"
            why = f"{how}: turn that off for the file"
            raise self._error(RangeNotSupportedError, why)
        text = self.headers.get("Content-Range", "")
        match = CONTENT_RANGE.fullmatch(text.strip())
        if not match or match[1] is None:
            why = f"the answer 206 has the Content-Range {text!r}"
            raise self._error(RangeNotSupportedError, why)
        size = None if match[3] == "*" else int(match[3])
        return int(match[1]), int(match[2]), size

    def _retry_after(self) -> float | None:
        """Seconds to wait; Retry-After is a number or a date."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isdigit():
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            return None

    def _phrase(self) -> str:
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "unknown status"

    def _error(self, kind: type[E], why: str) -> E:
        msg = (
            f"{self.name}: bytes [{self.start}, {self.stop}): HTTP {self.status}: {why}"
        )
        return kind(
            msg, url=self.name, start=self.start, stop=self.stop, status=self.status
        )
