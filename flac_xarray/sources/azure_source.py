"""A blob of Azure Storage, through adlfs."""

from __future__ import annotations

from typing import Any

from flac_xarray.sources.store_source import Accept, StoreSource

__all__ = ["AzureSource"]


class AzureSource(StoreSource):
    """Bytes of a blob; `open_source` makes one."""

    @staticmethod
    def speaks(fs: Any) -> bool:
        """Whether a file system has the calls this source needs."""
        return hasattr(fs, "service_client") and hasattr(type(fs), "split_path")

    async def _get(self, start: int, stop: int, accept: Accept) -> bytes:
        fs = self._connected()
        container, blob, version = fs.split_path(self._path)
        fields: dict[str, str] = {}

        def keep(answer: Any) -> None:  # of the last of what may be several tries
            fields.clear()
            seen = answer.http_response.headers
            fields.update({name.lower(): text for name, text in seen.items()})

        async with fs.service_client.get_blob_client(container, blob) as client:
            stream = await client.download_blob(
                offset=start,
                length=stop - start,
                version_id=version,
                raw_response_hook=keep,
                **getattr(fs, "_timeout_kwargs", {}),
            )
            told = ("Content-Range", "Content-Encoding", "ETag", "Last-Modified")
            accept({name: fields.get(name.lower()) for name in told})
            return bytes(await stream.readall())

    def _status_of(self, error: Exception) -> int | None:
        status = getattr(error, "status_code", None)
        return status if isinstance(status, int) else None
