"""Unfinished files beside their targets: one a writer, swept when the writer is gone.

Strategy: a writer holds a lock (``flock``) on its part file for as long as it lives,
and the kernel lets go of it however the process ends. So the next writer to the same
target removes what nobody holds, and never what another writer is at work on. Where a
file system knows no locks, nothing is swept. An interpreter that ends in order removes
its own: an interrupt may come between making a file and whoever would remove it.
"""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

__all__ = ["claim_part", "settle_part", "sweep_parts", "what_is_left"]

SUFFIX: Final = ".part"
PART: Final = re.compile(r"\.[0-9a-f]{8}\.part")
FLAGS: Final = os.O_RDWR | getattr(os, "O_BINARY", 0)

_claimed: Final[dict[Path, int]] = {}
"""Part files of this process, and its id: a fork's are not its own."""


def claim_part(path: Path, mode: int = 0o666) -> tuple[int, Path]:
    """Make a part file for a target.

    Parameters
    ----------
    path
        The target.
    mode
        Permissions, before the process's umask.

    Returns
    -------
    int, Path
        An open descriptor, whose closing gives up the claim, and the part's path.

    Raises
    ------
    OSError
        The folder does not take files.
    """
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
        _claimed[part] = os.getpid()
        try:
            fd = os.open(part, FLAGS | os.O_CREAT | os.O_EXCL, mode)
        except OSError:
            settle_part(part)
            raise
        _lock(fd)
        # Another writer may have swept it before it was locked.
        if os.fstat(fd).st_nlink:
            return fd, part
        os.close(fd)
        settle_part(part)


def settle_part(part: Path) -> None:
    """Take note that a part file was renamed, removed or left to somebody else."""
    _claimed.pop(part, None)


@atexit.register
def _remove_claimed() -> None:
    for part, pid in list(_claimed.items()):
        if pid == os.getpid():
            with contextlib.suppress(OSError):
                part.unlink()


def sweep_parts(path: Path) -> None:
    """Remove the target's part files that no living writer holds."""
    names = glob.glob(f".{glob.escape(path.name)}.*", root_dir=path.parent)  # noqa: PTH207  # Path.glob goes into folders
    for name in sorted(names):  # a part before what lies beside it
        found = PART.match(name, len(path.name) + 1)
        if found is None:
            continue
        # Behind the part's own name lie GDAL's files (.aux.xml) and claims of bytes.
        part = path.with_name(name[: found.end()])
        if name == part.name:
            _remove_abandoned(part)
        elif not part.exists():
            with contextlib.suppress(OSError):
                path.with_name(name).unlink()


def what_is_left(path: str | os.PathLike[str]) -> str:
    """Say what stands under a target's name after a write that failed.

    Examples
    --------
    >>> what_is_left("no/such/file")
    'nothing is left under that name'
    """
    if os.path.lexists(path):
        return "the file of that name stays as it was"
    return "nothing is left under that name"


def _remove_abandoned(part: Path) -> None:
    """Remove a part file and what lies beside it, unless somebody holds it."""
    try:
        fd = os.open(part, FLAGS | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # gone, or not ours
        return
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and _lock(fd):
            with contextlib.suppress(OSError):
                part.unlink()
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    """Lock a file without waiting; false where that cannot be."""
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
