"""``dispatcharr calibrate``: measure this machine, say what was found and where it was put."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from dispatcharr.cli.console import console, pairs, print_json
from dispatcharr.cli.info import profile_figures

__all__ = ["calibrate"]


def calibrate(quick: bool, as_json: bool) -> None:
    """Measure, save and print."""
    import dispatcharr

    with _progress() as progress:
        profile = dispatcharr.calibrate(quick=quick, progress=progress)
    if as_json:
        print_json(asdict(profile))
        return
    profile_figures(profile)
    where = "nowhere: it holds until the process ends" if profile.path is None else profile.path
    pairs("Saved", [("file", where)])


@contextmanager
def _progress() -> Iterator[Callable[[float, str], None] | None]:
    """Show a bar on standard error, if that is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    if not out.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description:12}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("calibrate", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)
