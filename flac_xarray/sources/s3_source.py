"""An object of an S3 store, through s3fs.

Strategy: `_cat_file` of s3fs drops the answer's headers. The same call one step below
gives them, so that the size comes with the first answer and a replaced object is
noticed, by the checks that HTTP has.
"""

from __future__ import annotations

import asyncio
from typing import Any

from flac_xarray.errors import SourceError
from flac_xarray.sources.fsspec_source import translate_error
from flac_xarray.sources.http_answer import AnswerHead, FileIdentity
from flac_xarray.sources.loop_source import Data, LoopSource
from flac_xarray.sources.retrying import TransientError

__all__ = ["S3Source"]


class S3Source(LoopSource):
    """Bytes of an S3 object; `open_source` makes one."""

    @staticmethod
    def speaks(fs: Any) -> bool:
        """Whether a file system has the calls this source needs."""
        return hasattr(type(fs), "_call_s3") and hasattr(type(fs), "split_path")

    async def _attempt(self, start: int, stop: int, *, prefix: bool) -> Data:
        data: bytes = b""
        self.counters.begin()
        try:
            async with asyncio.timeout(self.limits.deadline(stop - start)):
                answer = await self._get_object(start, stop)
                async with answer["Body"] as body:
                    head = self._head(answer, start, stop)
                    self._identity = self._identity.merged(head.identity(), self.name)
                    expected = head.partial_nbytes(prefix=prefix)
                    data = await body.read()
        except (SourceError, TransientError):
            raise
        except Exception as error:  # noqa: BLE001 - botocore, aiohttp and s3fs
            if prefix and _is_empty_object(error):
                self._identity = self._identity.merged(FileIdentity(size=0), self.name)
                return b""
            failure = translate_error(error, self.name, start, stop, self._secrets)
            _add_status(failure, error)
            raise failure from self._secrets.presentable(error)
        finally:
            self.counters.end(len(data))
        if len(data) < expected:
            raise head.short_body(expected, len(data))
        return data

    async def _get_object(self, start: int, stop: int) -> Any:
        fs = self._connected()
        bucket, key, version = fs.split_path(self._path)
        which = {"Bucket": bucket, "Key": key}
        if version:
            which["VersionId"] = version
        wanted = f"bytes={start}-{stop - 1}"
        return await fs._call_s3(  # noqa: SLF001 - see the module
            "get_object", fs.req_kw, **which, Range=wanted
        )

    def _head(self, answer: Any, start: int, stop: int) -> AnswerHead:
        fields = {
            "Content-Range": answer.get("ContentRange"),
            "ETag": answer.get("ETag"),
        }
        headers = {name: text for name, text in fields.items() if text}
        return AnswerHead(206, headers, self.name, start, stop)


def _response(error: BaseException) -> dict[str, Any]:
    """Give botocore's own account of an error that s3fs translated."""
    for seen in (error, error.__cause__):
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _is_empty_object(error: BaseException) -> bool:
    """Whether no first byte can be had: that is how S3 says that there is none."""
    return bool(_response(error).get("Error", {}).get("Code") == "InvalidRange")


def _add_status(failure: SourceError | TransientError, error: BaseException) -> None:
    final = failure.error if isinstance(failure, TransientError) else failure
    final.status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
