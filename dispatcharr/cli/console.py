"""What the commands print with: 80 columns at most, whatever the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "in_binary", "pairs", "print_json", "progress_bar", "table"]

WIDTH = 80


def console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, up to 80 columns."""
    from rich.console import Console

    width = Console(stderr=stderr).width
    return Console(stderr=stderr, width=min(width, WIDTH), highlight=False, markup=False)


@contextmanager
def progress_bar(task: str, width: int = 12) -> Iterator[Callable[[float, str], None] | None]:
    """Show a bar on standard error, if that is a terminal; give what tells it of the progress.

    That is called with the share of the ``task`` that is done and, in up to ``width`` characters,
    with what is being done.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    if not out.is_terminal:
        yield None
        return
    columns = (TextColumn(f"{{task.description:{width}}}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        shown = bar.add_task(task, total=1.0)
        yield lambda share, what: bar.update(shown, completed=share, description=what)


def print_json(data: Mapping[str, Any]) -> None:
    """Print ``data`` for a program to read."""
    click.echo(json.dumps(data, indent=2))


def pairs(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and what they stand for under a title."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(f"  {name}", value)
    out = console()
    out.print(title, style="bold")
    out.print(grid)
    out.print()


def table(header: Sequence[str], rows: Iterable[Sequence[str]], dense: bool = False) -> None:
    """Print rows of figures under a header; the first column is names.

    A ``dense`` table has less between its columns, for those that have many.
    """
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=dense)
    for number, name in enumerate(header):
        grid.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    out = console()
    out.print(grid)
    out.print()


def in_binary(count: float) -> str:
    """Return a size of hardware, which comes in powers of two.

    Examples
    --------
    >>> in_binary(49152)
    '48 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
