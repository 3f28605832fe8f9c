"""An object of Google Cloud Storage, through gcsfs.

Strategy: every write of an object gives it a new generation, which each answer names.
The ETag will not do: it changes with the object's metadata too.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from flac_xarray.sources.store_source import Accept, StoreSource

__all__ = ["GcsSource"]

GENERATION: Final = "X-Goog-Generation"


class GcsSource(StoreSource):
    """Bytes of an object of Google Cloud Storage; `open_source` makes one."""

    @staticmethod
    def speaks(fs: Any) -> bool:
        """Whether a file system has the calls this source needs."""
        gcs = "gs" in getattr(type(fs), "protocol", ())
        return gcs and hasattr(type(fs), "_call") and hasattr(type(fs), "url")

    async def _get(self, start: int, stop: int, accept: Accept) -> bytes:
        fs = self._connected()
        wanted = {"Range": f"bytes={start}-{stop - 1}"}
        fields, data = await fs._call(  # noqa: SLF001 - _cat_file drops the fields
            "GET", fs.url(self._path), headers=wanted
        )
        version = (GENERATION,) if GENERATION in fields else ("ETag", "Last-Modified")
        told = ("Content-Range", "Content-Encoding", *version)
        accept({name: fields.get(name) for name in told})
        return bytes(data)

    def _status_of(self, error: Exception) -> int | None:
        if isinstance(error, FileNotFoundError):
            return HTTPStatus.NOT_FOUND
        if str(error).startswith("Forbidden"):  # gcsfs makes it a bare OSError
            return HTTPStatus.FORBIDDEN
        code = str(getattr(error, "code", None))
        return int(code) if code.isdigit() else None
