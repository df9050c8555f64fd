"""``dispatcharr bench``: run the laboratory, print its tables, write its data, page and plots."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy

from dispatcharr.cli.console import pairs, progress_bar, table
from dispatcharr.cli.info import free_memory
from dispatcharr.explain.text import in_bytes, in_seconds

if TYPE_CHECKING:
    from dispatcharr.bench.lab import Plan
    from dispatcharr.bench.results import Cell, Report

__all__ = ["Request", "bench"]

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_QUICK_SIZES = (10_000, 1_000_000)
#: Seconds of timing, full and quick.
_BUDGET = (300.0, 15.0)
#: Arrays as long as an operand that may be alive at once: four operands as NumPy's, as ours and as
#: two peers' own, and the temporaries of the longest expression.
_ALIVE = 24


@dataclass(frozen=True)
class Request:
    """The options of the command, as typed."""

    quick: bool
    sizes: str | None
    dtype: str
    expressions: str | None
    peers: str | None
    budget: float | None
    json: str | None
    plots: str | None
    report: str | None


def bench(asked: Request) -> int:
    """Measure, print and write; return the exit status, 1 if an answer of ours was wrong."""
    plan = _plan(asked)
    _check_targets(asked)
    _check_memory(plan)
    from dispatcharr.bench.lab import run

    with progress_bar("bench", width=34) as progress:
        report = run(plan, progress)
    _print(report)
    _write(report, asked)
    for cell, name, how in report.ours_wrong:
        click.echo(f"dispatcharr: {name} is wrong at {cell.title}, {cell.size:,}: {how}", err=True)
    return 1 if report.ours_wrong else 0


def _plan(asked: Request) -> Plan:
    from dispatcharr._errors import OptionError
    from dispatcharr.bench.expressions import chosen_expressions
    from dispatcharr.bench.lab import Plan
    from dispatcharr.bench.peers import chosen_peers
    from dispatcharr.bench.turns import Pace

    try:
        expressions = chosen_expressions(_listed(asked.expressions))
    except OptionError as error:
        raise click.BadParameter(str(error), param_hint="'--expressions'") from None
    try:
        peers = chosen_peers(_listed(asked.peers))
    except OptionError as error:
        raise click.BadParameter(str(error), param_hint="'--peers'") from None
    usual = _QUICK_SIZES if asked.quick else _SIZES
    return Plan(
        expressions=expressions,
        sizes=usual if asked.sizes is None else _sizes(asked.sizes),
        dtype=_dtype(asked.dtype),
        peers=peers,
        budget=_BUDGET[asked.quick] if asked.budget is None else asked.budget,
        pace=Pace(0.0, least=3 if asked.quick else 5),
        extra=asked.sizes is None and not asked.quick,
    )


def _listed(text: str | None) -> list[str] | None:
    """Return what stands between commas; those within brackets belong to an expression."""
    if text is None:
        return None
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found if one.strip()]


def _sizes(text: str) -> list[int]:
    sizes = []
    for part in text.split(","):
        try:
            size = float(part)
        except ValueError:
            size = 0.0
        if not (size >= 10 and size.is_integer()):
            raise click.BadParameter(
                f"{part.strip()!r}: wanted numbers of elements, at least 10, such as 1e4,1e6",
                param_hint="'--sizes'",
            )
        sizes.append(int(size))
    return sorted(set(sizes))


def _dtype(name: str) -> numpy.dtype[numpy.floating]:
    if name not in ("float32", "float64"):
        raise click.BadParameter(
            f"{name!r}: wanted float64 or float32, which every peer computes with",
            param_hint="'--dtype'",
        )
    return numpy.dtype(name)


def _check_targets(asked: Request) -> None:
    """Find out before the measurement what could not be written after it."""
    for option, path in (("json", asked.json), ("report", asked.report), ("plots", asked.plots)):
        if path is not None and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise click.BadParameter(f"there is no folder for {path!r}", param_hint=f"'--{option}'")
    if asked.plots is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plots needs matplotlib: pip install 'dispatcharr[plot]'")


def _check_memory(plan: Plan) -> None:
    wanted = _ALIVE * max(size for _, size in plan.grid()) * plan.dtype.itemsize
    free = free_memory()
    if free is not None and wanted > free:
        raise click.BadParameter(
            f"the largest size needs about {in_bytes(wanted)}, but {in_bytes(free)} of memory are "
            "free; ask for smaller sizes",
            param_hint="'--sizes'",
        )


def _print(report: Report) -> None:
    from dispatcharr.bench.load import is_disturbed
    from dispatcharr.bench.markdown import faster
    from dispatcharr.bench.results import NUMPY, in_size

    rest = [name for name in report.contenders if name != NUMPY]
    for size in report.sizes:
        rows = [
            (
                cell.title, in_seconds(cell.turns.typical(NUMPY)),
                *[faster(cell, name) for name in rest],
            )
            for cell in report.at(size)
        ]  # fmt: skip
        table([f"Times faster, {in_size(size)}", NUMPY, *rest], rows, dense=True)
    _print_routing(report)
    lines = [
        ("roof", f"{in_bytes(report.roof.bandwidth)}/s, {report.roof.how}"),
        ("regret", f"over {report.regret_sentence}"),
        *report.missing.items(),
        *[(name, f"~ {note}") for name, note in _notes(report).items()],
    ]
    if is_disturbed(report.others):
        lines.append(("disturbed", f"others used {report.others:.2f} cores: measure again"))
    pairs("Beside this", lines)


def _notes(report: Report) -> dict[str, str]:
    return {name: note for cell in report.cells for name, note in cell.notes.items()}


def _print_routing(report: Report) -> None:
    from dispatcharr.bench.ours import AUTO
    from dispatcharr.bench.results import in_size

    size = report.sizes[-1]

    def row(cell: Cell) -> tuple[str, ...]:
        there = AUTO in cell.turns.names
        share = f"{100 * report.roof_share(cell, AUTO):.0f} %" if there else "-"
        regret = "-" if cell.regret is None else f"{cell.regret:.2f}"
        return cell.title, cell.chosen, cell.best_forced or "-", regret, share

    header = [f"Routing, {in_size(size)}", "chosen", "best forced", "regret", "of the roof"]
    table(header, [row(cell) for cell in report.at(size)])


def _write(report: Report, asked: Request) -> None:
    if asked.json is not None:
        text = json.dumps(report.to_dict(), indent=1)
        Path(asked.json).write_text(text + "\n", encoding="utf-8")
    pictures = []
    if asked.plots is not None:
        from dispatcharr.bench.plots import draw

        pictures = draw(report, Path(asked.plots))
    if asked.report is not None:
        from dispatcharr.bench.markdown import page

        home = os.path.dirname(os.path.abspath(asked.report))
        seen = [
            (caption, Path(os.path.relpath(path, home)).as_posix()) for caption, path in pictures
        ]
        Path(asked.report).write_text(page(report, _command(), seen), encoding="utf-8")


def _command() -> str:
    """Return the command line as it was typed, whatever started it."""
    import shlex

    return shlex.join(["dispatcharr", *sys.argv[1:]])
