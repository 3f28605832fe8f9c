"""What is printed: tables, JSON, sizes, a progress bar.

Strategy: results go to standard output, for people as a rich table and for programs as
JSON; progress goes to standard error and only to a terminal. rich drops colours where
there is no terminal and where NO_COLOR is set.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

__all__ = [
    "percent",
    "print_json",
    "print_pairs",
    "print_table",
    "progress_bar",
    "shown",
    "size",
]

WIDE: Final = 100_000
"""Columns where there is no terminal: what is piped must not be cut to 80."""


def size(nbytes: float | None) -> str:
    """Say a number of bytes in decimal units.

    Examples
    --------
    >>> size(999), size(21_187), size(185_030_251), size(None)
    ('999 bytes', '21.2 kB', '185.0 MB', 'unknown')
    """
    if nbytes is None:
        return "unknown"
    if nbytes < 1000:  # noqa: PLR2004
        return "1 byte" if nbytes == 1 else f"{nbytes:.0f} bytes"
    value, units = float(nbytes), iter("kMGTPE")
    while value >= 999.95:  # noqa: PLR2004  # what would be shown as 1000.0
        value, unit = value / 1000, next(units)
    return f"{value:.1f} {unit}B"


def percent(part: float, whole: float | None) -> str:
    """Say a share.

    Examples
    --------
    >>> percent(1, 3), percent(1, 3000), percent(1, 0)
    ('33.3 %', '0.03 %', '-')
    """
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.2f} %" if 0 < share < 1 else f"{share:.1f} %"


def shown(name: str) -> str:
    """Give a path or URL as it may be shown: without credentials."""
    from flac_xarray.naming import display_name

    return display_name(name)


def print_json(value: object) -> None:
    """Print a value as JSON; NaN and infinities must be gone from it."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair a line; None is left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        if value is not None:
            table.add_row(name, Text(str(value)))
    _print(table)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = ""
) -> None:
    """Print a table; numbers are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    listed = [list(row) for row in rows]
    table = Table(
        title=title or None, title_justify="left", box=box.SIMPLE, pad_edge=False
    )
    for k, name in enumerate(columns):
        is_number = all(isinstance(row[k], (int, float)) for row in listed)
        table.add_column(name, justify="right" if is_number else "left")
    for row in listed:
        table.add_row(*(Text(str(value)) for value in row))
    _print(table)


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    console = Console(file=sys.stdout, highlight=False, width=WIDE)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


@contextlib.contextmanager
def progress_bar(
    what: str, total: int | None, *, quiet: bool
) -> Iterator[Callable[[int], object] | None]:
    """Show a bar with throughput and remaining time on standard error.

    Parameters
    ----------
    what
        What is going on.
    total
        Bytes of pixels in all; None where that is not known.
    quiet
        Whether to show nothing.

    Yields
    ------
    callable or None
        To be called with bytes done; None where there is nobody to see it.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda nbytes: progress.advance(task, nbytes)
