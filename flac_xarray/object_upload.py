"""One object of a store, put together of parts that any process uploads.

Strategy: objects cannot be written in place, so tiles are gathered into parts of some
megabytes, and part 1 is kept for the header, which is known last. Each store has its
own way to make parts one object, and shows nothing before: S3 multipart uploads, Azure
lists of blocks, Google compositions of objects beside the target. Elsewhere `finish`
copies the parts, one after the other.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Mapping
from typing import Any, Final, Self

from flac_xarray.remote_target import RemoteTarget
from flac_xarray.tile_batch import Part

__all__ = [
    "MAX_PARTS",
    "MIN_PART_NBYTES",
    "AzureUpload",
    "GcsUpload",
    "S3Upload",
    "StagedUpload",
    "begin_upload",
]

MIN_PART_NBYTES: Final = 5 << 20
"""Least size of a part but the last, S3's rule."""
MAX_PARTS: Final = 10_000
"""Most parts of one object, S3's rule."""
MAX_COMPOSED: Final = 32
"""Most objects that become one at a time, Google's rule."""


class StagedUpload:
    """Parts as objects beside the target, of any fsspec file system that is shared.

    Parameters
    ----------
    target
        What is to be written.
    """

    waits = True
    """Tiles wait until there are enough for a part."""

    def __init__(self, target: RemoteTarget) -> None:
        self.target = target
        self.name = target.name
        self.fs = target.fs
        self.path = target.path
        folder, _, file = self.path.rpartition("/")
        self.staging = f"{folder}/.{file}.{secrets.token_hex(4)}.parts"

    @classmethod
    def begin(cls, target: RemoteTarget) -> Self:
        """Start an upload.

        Raises
        ------
        SourceError
            The store refuses.
        """
        return cls(target)

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
        with self.target.translated(f"part {number} was not stored"):
            return Part(number, len(data), self._put(number, data)), 0

    def finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        """Store part 1 and make the object appear.

        Raises
        ------
        FileExistsError
            An object of that name has appeared, and it may not be replaced.
        SourceError
            The store refuses, or the upload was finished or given up.
        """
        self.target.refuse_existing()
        with self.target.translated("the whole was not stored"):
            self._finish(head, parts)

    def abort(self) -> None:
        """Forget the parts; what a store does not delete is no error of the write."""
        with contextlib.suppress(Exception):
            self.fs.rm(self.staging, recursive=True)

    def release(self) -> None:
        """Hold nothing: there is nothing to hold."""

    def _staged(self, number: int) -> str:
        return f"{self.staging}/{number:05d}"

    def _put(self, number: int, data: bytes) -> str:
        with contextlib.suppress(Exception):  # object stores have no folders
            self.fs.makedirs(self.staging, exist_ok=True)
        self.fs.pipe_file(self._staged(number), data)
        return ""

    def _finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        # Under a name of its own first: some stores show what is half written.
        whole = f"{self.staging}/whole"
        with contextlib.suppress(Exception):  # object stores have no folders
            self.fs.makedirs(self.staging, exist_ok=True)
        with self.fs.open(whole, "wb") as file:
            file.write(head)
            for part in parts:
                data = self.fs.cat_file(self._staged(part.number))
                if len(data) != part.nbytes:
                    msg = f"{len(data)} bytes found of {part}"
                    raise ValueError(msg)
                file.write(data)
        self.fs.mv(whole, self.path)
        self.abort()


class S3Upload(StagedUpload):
    """A multipart upload of S3; `begin` starts one."""

    upload_id: str = ""

    @classmethod
    def begin(cls, target: RemoteTarget) -> Self:
        """Start an upload; see `StagedUpload.begin`."""
        upload = cls(target)
        with target.translated("nothing was stored"):
            answer = upload.fs.call_s3("create_multipart_upload", **upload._which())
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


class GcsUpload(StagedUpload):
    """Objects beside the target that Google Cloud Storage composes into it."""

    def _finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        self._put(1, head)
        names = [self._staged(number) for number in (1, *(p.number for p in parts))]
        level = 0
        while len(names) > MAX_COMPOSED:
            groups = [
                names[at : at + MAX_COMPOSED]
                for at in range(0, len(names), MAX_COMPOSED)
            ]
            names = [f"{self.staging}/{level}-{at:05d}" for at in range(len(groups))]
            for name, group in zip(names, groups, strict=True):
                self.fs.merge(name, group)
            level += 1
        self.fs.merge(self.path, names)
        self.fs.invalidate_cache()
        self.abort()


class AzureUpload(StagedUpload):
    """A blob's list of blocks; those that are never listed vanish after a week."""

    def _put(self, number: int, data: bytes) -> str:
        block = base64.b64encode(b"%05d" % number).decode()
        self._call("stage_block", block, data, length=len(data))
        return block

    def _finish(self, head: bytes, parts: tuple[Part, ...]) -> None:
        from azure.storage.blob import BlobBlock

        blocks = [self._put(1, head), *(part.tag for part in parts)]
        listed = [BlobBlock(block) for block in blocks]
        # adlfs marks what is no folder.
        self._call("commit_block_list", listed, metadata={"is_directory": "false"})
        self.fs.invalidate_cache()

    def _call(self, method: str, *args: Any, **options: Any) -> None:
        from fsspec.asyn import sync

        async def call() -> None:
            container, blob, _ = self.fs.split_path(self.path)
            timeouts = getattr(self.fs, "_timeout_kwargs", {})
            async with self.fs.service_client.get_blob_client(container, blob) as to:
                await getattr(to, method)(*args, **options, **timeouts)

        sync(self.fs.loop, call)

    def abort(self) -> None:
        """Leave the blocks to Azure: there is no call that removes them."""


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
    target = RemoteTarget.open(url, storage_options, overwrite=overwrite)
    return _way_of(target.fs).begin(target)


def _way_of(fs: Any) -> type[StagedUpload]:
    """Give the way in which a file system makes parts one object."""
    kind = type(fs)
    if not hasattr(kind, "split_path"):
        return StagedUpload
    if hasattr(kind, "call_s3"):
        return S3Upload
    if hasattr(fs, "service_client"):
        return AzureUpload
    return (
        GcsUpload if "gs" in kind.protocol and hasattr(kind, "merge") else StagedUpload
    )
