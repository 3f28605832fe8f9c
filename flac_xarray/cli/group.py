"""How commands fail: one line on standard error, and an exit code.

Strategy: the group, not `main`, translates errors, so that they come out the same when
it is a plugin of another group. Exit codes: 0 done, 1 failed or found to be wrong,
2 wrong words on the command line, 130 interrupted, 143 ended by SIGTERM.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, TextIO, TypeVar

import click

from flac_xarray.cli.old_words import renamed
from flac_xarray.errors import FlacRasterError

__all__ = ["FlacGroup", "debug_option"]

INTERRUPTED: Final = 130
SIGNALED: Final = 128
"""What a shell adds to a signal's number."""
DEBUG: Final = "flac_xarray.debug"
"""Where a context says that tracebacks are wanted."""

F = TypeVar("F", bound=Callable[..., Any])


def debug_option(command: F) -> F:
    """Add ``--debug``, which is read from the context."""

    def note(ctx: click.Context, _: click.Parameter, value: object) -> None:
        if value:
            ctx.meta[DEBUG] = True

    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=note,
        help="Show the traceback of an error.",
    )(command)


class _Terminated(BaseException):
    """The process was told to end; raised where it is, so that writers clean up."""


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """Make SIGTERM and SIGHUP unwind like Ctrl-C, where they would just kill."""

    def stop(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_IGN)  # a second one must not stop the cleaning
        raise _Terminated(signum)

    is_main = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if is_main else ()
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    taken = [s for s in signals if signal.getsignal(s) is signal.SIG_DFL]
    for signum in taken:
        signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


class FlacGroup(click.Group):
    """A group whose commands' errors are one line and an exit code."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, which takes ``--debug`` as the group does."""
        super().add_command(debug_option(cmd), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, also by the name that flac-raster 0.1.2 gave it."""
        return super().resolve_command(ctx, renamed(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        Raises
        ------
        click.ClickException
            It failed.
        click.exceptions.Exit
            It was interrupted.
        """
        try:
            with warnings.catch_warnings(), _termination():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except _Terminated as told:
            click.echo(f"Ended by {signal.Signals(told.args[0]).name}.", err=True)
            raise click.exceptions.Exit(SIGNALED + told.args[0]) from None
        except KeyboardInterrupt:
            if ctx.meta.get(DEBUG):
                raise
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except Exception as error:
            text = _told(error)
            if text is None or ctx.meta.get(DEBUG):
                raise
            text = "; ".join([text, *getattr(error, "__notes__", ())])
            # GDAL and XML have lines of their own.
            raise click.ClickException(" ".join(text.split())) from error


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning as a line, without the place in the code that it came from."""
    del filename, lineno, file, line
    if not issubclass(category, (DeprecationWarning, PendingDeprecationWarning)):
        click.echo(f"Warning: {message}", err=True)


def _told(error: Exception) -> str | None:
    """Give an error in one line, or None when it is not ours to tell."""
    if isinstance(error, FileExistsError) and error.filename is not None:
        return f"{error.filename} already exists: pass --overwrite to replace it"
    if isinstance(error, FlacRasterError):
        return str(error)
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:  # the reader of our output has gone: click's
            return None
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    # By name, since importing rasterio would take longer than most commands.
    is_rasterio = type(error).__module__.partition(".")[0] == "rasterio"
    return str(error) if is_rasterio else None
