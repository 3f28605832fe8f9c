"""What a forked child begins anew: locks, and what threads had under way.

Strategy: only the forking thread lives on in the child. A lock that another one held
would stay locked for ever there, so all locks of this package are made here, and are
free in a child, as those of the standard library are. What they guard is changed in
steps each of which leaves it whole. Who waits for a thread, or counts what one does,
registers and starts over. No child opens or reads less well for it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["fork_safe_lock", "renew_after_fork", "run_after_fork"]


class Renewable(Protocol):
    """Starts over in a forked child."""

    def after_fork(self) -> None:
        """Forget what threads of the parent had under way; no lock is held."""


_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_objects: weakref.WeakSet[Renewable] = weakref.WeakSet()
_functions: list[Callable[[], None]] = []


def fork_safe_lock() -> threading.Lock:
    """Make a lock that is free in a forked child.

    Examples
    --------
    >>> with fork_safe_lock() as held:
    ...     held
    True
    """
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def renew_after_fork(value: Renewable) -> None:
    """Have `value.after_fork` called in forked children while the value lives."""
    _objects.add(value)


def run_after_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Have a function of a module called in forked children; a decorator."""
    _functions.append(function)
    return function


def _begin_anew() -> None:
    for lock in list(_locks):
        # What threading and logging do with theirs; locks have no public way.
        lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001
    for function in _functions:
        function()
    for value in list(_objects):
        value.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_begin_anew)
