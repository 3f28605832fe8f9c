"""An object of an S3 store, through s3fs."""

from __future__ import annotations

from typing import Any

from flac_xarray.sources.store_source import Accept, StoreSource

__all__ = ["S3Source"]


class S3Source(StoreSource):
    """Bytes of an S3 object; `open_source` makes one."""

    @staticmethod
    def speaks(fs: Any) -> bool:
        """Whether a file system has the calls this source needs."""
        return hasattr(type(fs), "_call_s3") and hasattr(type(fs), "split_path")

    async def _get(self, start: int, stop: int, accept: Accept) -> bytes:
        fs = self._connected()
        bucket, key, version = fs.split_path(self._path)
        which = {"Bucket": bucket, "Key": key}
        if version:
            which["VersionId"] = version
        answer = await fs._call_s3(  # noqa: SLF001 - _cat_file drops the header fields
            "get_object", fs.req_kw, **which, Range=f"bytes={start}-{stop - 1}"
        )
        async with answer["Body"] as body:
            accept(
                {
                    "Content-Range": answer.get("ContentRange"),
                    "ETag": answer.get("ETag"),
                }
            )
            return bytes(await body.read())

    def _status_of(self, error: Exception) -> int | None:
        # botocore's own account of an error that s3fs translated.
        for seen in (error, error.__cause__):
            response = getattr(seen, "response", None)
            if isinstance(response, dict):
                status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                return status if isinstance(status, int) else None
        return None
