"""Threads that work off jobs, and that nobody depends on.

Strategy: jobs are taken back in the order in which they were put, by the thread that
put them. It waits only for a job that another thread has begun; one that nobody has
begun it does itself. So a thread that cannot be started (no memory, no more threads,
an interpreter that shuts down), or that dies before it has begun a job, costs speed and
nothing else. A begun job ends with a result or an error, whatever is raised in it.

`threading.Thread` is not used: its ``start`` waits for word from the new thread, which
never comes from one that dies of lack of memory. Threads start when there are jobs and
end when there are none, so none has to be told to.
"""

from __future__ import annotations

import _thread
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

__all__ = ["Crew", "start_thread"]

T = TypeVar("T")
P = ParamSpec("P")


def start_thread(function: Callable[[], object]) -> bool:
    """Run a function in a thread that nobody waits for; false where there is none.

    A thread that lacks memory may end before it calls the function.
    """
    try:
        _thread.start_new_thread(function, ())
    except (RuntimeError, MemoryError):
        return False
    return True


class Crew(Generic[T]):
    """So many threads for the jobs of one thread, as long as a context lasts.

    Jobs that were not taken when it ends are dropped, unless they are under way.

    Parameters
    ----------
    threads
        How many work, beside the thread that gives them jobs and takes them back.
    waits
        Whether jobs that are under way come to their end before the context does.

    Examples
    --------
    >>> with Crew(2) as crew:
    ...     for n in range(3):
    ...         crew.put(pow, n, 2)
    ...     [crew.take() for _ in range(len(crew))]
    [0, 1, 4]
    """

    def __init__(self, threads: int, *, waits: bool = True) -> None:
        self.threads: Final = threads
        self._waits = waits
        self._lock = threading.Lock()
        self._open: deque[_Job[T]] = deque()
        self._given: deque[_Job[T]] = deque()
        self._working = 0
        self._most = threads

    def __len__(self) -> int:
        """Count the jobs that were not taken back."""
        return len(self._given)

    def put(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        """Give a job."""
        job = _Job(function, args, kwargs)
        self._given.append(job)
        with self._lock:
            self._open.append(job)
            if self._working >= self._most:
                return
            self._working += 1
        if not start_thread(self._work):
            with self._lock:
                self._working -= 1
                self._most = self._working  # every attempt costs a little memory

    def take(self) -> T:
        """Take the oldest job back: its result, or what it raised.

        Works at what nobody has begun until the oldest is done. After an error the crew
        is good for nothing but the end of its context.
        """
        oldest = self._given[0]
        while not oldest.has_ended and (job := self._next()) is not None:
            job.do()
        result = oldest.result()
        self._given.popleft()
        return result

    def _next(self, working: int = 0) -> _Job[T] | None:
        """Give the next job that is open; without one, so many workers fewer."""
        with self._lock:
            if self._open:
                return self._open.popleft()
            self._working -= working
            return None

    def _work(self) -> None:
        """Do what is there: a thread's whole life."""
        try:
            while (job := self._next(working=1)) is not None:
                job.run()
                del job  # with what it holds
        except MemoryError:  # between jobs: whoever waits does the next
            with self._lock:
                self._working -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for job in self._given:
            job.drop()
        for job in self._given if self._waits else ():
            job.wait()


class _Job(Generic[T]):
    """A call that is made once, by whoever claims it first."""

    __slots__ = (
        "_call",
        "_claim",
        "_done",
        "_error",
        "_is_mine",
        "_value",
        "has_ended",
    )

    def __init__(
        self,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._call: tuple[Any, ...] | None = (function, args, kwargs)
        self._claim = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()
        self.has_ended = False
        self._is_mine = False
        self._value: T
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call, unless it was claimed; never raises what the call does."""
        is_claimed = False
        try:
            is_claimed = self._claim.acquire(blocking=False)
            if is_claimed:
                self._make()
        except BaseException as error:  # noqa: BLE001 - raised in who takes the job
            self._error = error
        finally:
            if is_claimed:
                self.has_ended = True
                self._done.release()

    def _make(self) -> None:
        assert self._call is not None  # noqa: S101
        function, args, kwargs = self._call
        self._call = None  # what it holds goes with the call
        self._value = function(*args, **kwargs)

    def do(self) -> None:
        """Make the call in the thread that waits for it, unless it was claimed."""
        # Before the claim: nobody waits for a claim that an interrupt came upon.
        self._is_mine = True
        if self._claim.acquire(blocking=False):
            self._make()
            self.has_ended = True
        else:
            self._is_mine = False

    def result(self) -> T:
        """Wait for the end; give what came of it."""
        if not self.has_ended:
            self.do()
        self.wait()
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # whose traceback holds this frame

    def drop(self) -> None:
        """Let nobody begin it any more."""
        if not self._is_mine:
            self._is_mine = self._claim.acquire(blocking=False)

    def wait(self) -> None:
        """Wait for its end if another thread has begun it."""
        if not self._is_mine and not self.has_ended:
            self._done.acquire()
