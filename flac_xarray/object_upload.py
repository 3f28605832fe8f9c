"""One object of a store, put together of parts that any process uploads.

Strategy: objects cannot be written in place, so tiles are gathered into parts of some
megabytes, and part 1 is kept for the header, which is known last. S3 has multipart
uploads for it, and shows nothing before they are complete. Elsewhere parts are objects
beside the target, which `finish` copies into it one after the other.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Mapping
from typing import Any, Final, Self

from flac_xarray.errors import SourceError
from flac_xarray.extras import what_to_install
from flac_xarray.tile_batch import Part

__all__ = ["MAX_PARTS", "MIN_PART_NBYTES", "S3Upload", "StagedUpload", "begin_upload"]

MIN_PART_NBYTES: Final = 5 << 20
"""Least size of a part but the last, S3's rule."""
MAX_PARTS: Final = 10_000
"""Most parts of one object, S3's rule."""


class StagedUpload:
    """Parts as objects beside the target, of any fsspec file system that is shared.

    Parameters
    ----------
    fs
        The file system.
    path
        The target on it.
    name
        What the target is called in messages.
    overwrite
        Whether an existing object may be replaced.
    """

    waits = True
    """Tiles wait until there are enough for a part."""

    def __init__(self, fs: Any, path: str, name: str, *, overwrite: bool) -> None:
        self.fs = fs
        self.path = path
        self.name = name
        self.overwrite = overwrite
        folder, _, file = path.rpartition("/")
        self.staging = f"{folder}/.{file}.{secrets.token_hex(4)}.parts"

    def put(self, number: int, data: bytes) -> tuple[Part, int]:
        """Store one part; storing it again gives the same.

        Returns
        -------
        Part, int
            The part, and 0: its tiles are counted from its own start.

        Raises
        ------
        SourceError
            The store refuses.
        """
        with self._translated(f"part {number}"):
            return Part(number, len(data), self._put(number, data)), 0

    def finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        """Store part 1 and make the object appear.

        Raises
        ------
        FileExistsError
            An object of that name has appeared, and `overwrite` is false.
        SourceError
            The store refuses, or the upload was finished or given up.
        """
        self.refuse_existing()
        with self._translated("the whole"):
            self._finish(head, parts)

    def refuse_existing(self) -> None:
        """Raise FileExistsError where the target may not be replaced."""
        if not self.overwrite and self.fs.exists(self.path):
            msg = "already exists; pass overwrite=True to replace it"
            raise FileExistsError(errno.EEXIST, msg, self.name)

    def abort(self) -> None:
        """Forget the parts; what a store does not delete is no error of the write."""
        with contextlib.suppress(Exception):
            self.fs.rm(self.staging, recursive=True)

    def release(self) -> None:
        """Hold nothing: there is nothing to hold."""

    def _put(self, number: int, data: bytes) -> str:
        with contextlib.suppress(Exception):  # object stores have no folders
            self.fs.makedirs(self.staging, exist_ok=True)
        self.fs.pipe_file(f"{self.staging}/{number:05d}", data)
        return ""

    def _finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        # Under a name of its own first: some stores show what is half written.
        whole = f"{self.staging}/whole"
        with contextlib.suppress(Exception):  # object stores have no folders
            self.fs.makedirs(self.staging, exist_ok=True)
        with self.fs.open(whole, "wb") as file:
            file.write(head)
            for part in parts:
                data = self.fs.cat_file(f"{self.staging}/{part.number:05d}")
                if len(data) != part.nbytes:
                    msg = f"{len(data)} bytes found of {part}"
                    raise ValueError(msg)
                file.write(data)
        self.fs.mv(whole, self.path)
        self.abort()

    @contextlib.contextmanager
    def _translated(self, what: str) -> Any:
        try:
            yield
        except (SourceError, FileExistsError):
            raise
        except Exception as error:
            msg = (
                f"cannot write {self.name}: {what} was not stored: "
                f"{type(error).__name__}: {error}"
            )
            raise SourceError(msg, url=self.name) from error


class S3Upload(StagedUpload):
    """A multipart upload of S3; `begin` starts one."""

    upload_id: str = ""

    @classmethod
    def begin(cls, fs: Any, path: str, name: str, *, overwrite: bool) -> Self:
        """Start an upload.

        Raises
        ------
        SourceError
            The store refuses.
        """
        upload = cls(fs, path, name, overwrite=overwrite)
        with upload._translated("nothing"):
            answer = fs.call_s3("create_multipart_upload", **upload._which())
        upload.upload_id = answer["UploadId"]
        return upload

    def _which(self) -> dict[str, str]:
        bucket, key, _ = self.fs.split_path(self.path)
        which = {"Bucket": bucket, "Key": key}
        return which | ({"UploadId": self.upload_id} if self.upload_id else {})

    def _put(self, number: int, data: bytes) -> str:
        answer = self.fs.call_s3(
            "upload_part", **self._which(), PartNumber=number, Body=data
        )
        return str(answer["ETag"])

    def _finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        tags = [(1, self._put(1, head)), *((p.number, p.tag) for p in parts)]
        listed = [{"PartNumber": number, "ETag": tag} for number, tag in tags]
        self.fs.call_s3(
            "complete_multipart_upload",
            **self._which(),
            MultipartUpload={"Parts": listed},
        )
        self.fs.invalidate_cache(self.path)

    def abort(self) -> None:
        """Forget the parts."""
        # An upload that is complete, or was given up before, has no parts to forget.
        with contextlib.suppress(Exception):
            self.fs.call_s3("abort_multipart_upload", **self._which())


def begin_upload(
    url: str, storage_options: Mapping[str, Any] | None, *, overwrite: bool
) -> StagedUpload:
    """Start to write an object.

    Raises
    ------
    FileExistsError
        It exists and `overwrite` is false.
    SourceError
        The store refuses.
    """
    import fsspec

    name = url.split("?", maxsplit=1)[0]
    try:
        fs, path = fsspec.core.url_to_fs(url, **dict(storage_options or {}))
    except ImportError as error:
        msg = f"cannot write {name}: {what_to_install(url, error)}"
        raise SourceError(msg, url=name) from error
    StagedUpload(fs, path, name, overwrite=overwrite).refuse_existing()
    if hasattr(type(fs), "call_s3") and hasattr(type(fs), "split_path"):
        return S3Upload.begin(fs, path, name, overwrite=overwrite)
    return StagedUpload(fs, path, name, overwrite=overwrite)
