"""An object or remote file to be written: where it is, and how its errors read.

Strategy: whatever a file system raises becomes one `SourceError` that names the target
and shows no credential.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from flac_xarray.errors import SourceError
from flac_xarray.extras import what_to_install
from flac_xarray.naming import Secrets, display_name

__all__ = ["RemoteTarget"]

LONGEST_TOLD: Final = 1000
"""Characters of another library's error: some show what they were sent."""


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """A place on an fsspec file system."""

    fs: Any
    path: str
    """As `fs` calls it."""
    name: str
    """What it is called in messages."""
    overwrite: bool
    """Whether an existing file may be replaced."""
    secrets: Secrets
    """What must not be shown."""

    @classmethod
    def open(
        cls, url: str, storage_options: Mapping[str, Any] | None, *, overwrite: bool
    ) -> Self:
        """Make the file system of a URL, and see that the target may be written.

        Raises
        ------
        FileExistsError
            It exists and `overwrite` is false.
        SourceError
            The protocol needs another package, or the store refuses.
        """
        import fsspec

        options = dict(storage_options or {})
        name, secrets = display_name(url), Secrets(url, options)
        try:
            fs, path = fsspec.core.url_to_fs(url, **options)
        except ImportError as error:
            msg = f"cannot write {name}: {what_to_install(url, error)}"
            raise SourceError(msg, url=name) from error
        except Exception as error:  # noqa: BLE001 - they raise what they like
            failure = _failure(name, "the store cannot be opened", error, secrets)
            raise failure from secrets.presentable(error)
        target = cls(fs, path, name, overwrite, secrets)
        target.refuse_existing()
        return target

    def refuse_existing(self) -> None:
        """Raise FileExistsError where the target may not be replaced."""
        if self.overwrite:
            return
        with self.translated("whether it exists is not known"):
            if self.fs.exists(self.path):
                msg = "already exists; pass overwrite=True (--overwrite) to replace it"
                raise FileExistsError(errno.EEXIST, msg, self.name)

    @contextlib.contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Turn what the file system raises into `SourceError`; `what` is lost then."""
        try:
            yield
        except (SourceError, FileExistsError):
            raise
        except Exception as error:  # noqa: BLE001 - they raise what they like
            failure = _failure(self.name, what, error, self.secrets)
            raise failure from self.secrets.presentable(error)


def _failure(name: str, what: str, error: Exception, secrets: Secrets) -> SourceError:
    told = secrets.clean(str(error))[:LONGEST_TOLD]
    msg = f"cannot write {name}: {what}: {type(error).__name__}: {told}"
    return SourceError(msg, url=name)
