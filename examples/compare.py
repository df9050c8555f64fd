"""Run the example programs under plain NumPy and under dispatcharr, and compare.

    python examples/compare.py                         every example, at its full size
    python examples/compare.py heat tonemap --quick    two of them, at a small size
    python examples/compare.py hillshade --explain     first show what ran where, and why

Both runs use the same unchanged program, each in a process of its own, in turn, so that a busy
machine harms both alike. A time is the median over these processes of the seconds that the
program itself reports for its computing part (itself a median). The answers must agree
to a relative 1e-6 in the checksum that the programs print; the exit status is 1 if one does not
or if a program fails.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).resolve().parent
SIDES = {
    "NumPy": [sys.executable],
    "dispatcharr": [sys.executable, "-m", "dispatcharr", "run", "--quiet"],
}
QUICK = {  # the --size of each example, in the order in which they are shown
    "hillshade": 1000,
    "tonemap": 900,
    "black_scholes": 500_000,
    "heat": 500,
    "quantised_softmax": 40_000,
}
RESULT = re.compile(r"^result: name=(?P<name>\S+) seconds=(?P<seconds>\S+) checksum=(?P<sum>\S+)$")
TOLERANCE = 1e-6
MIB = 2**20


class ExampleFailed(Exception):
    """A program ended with an error, or without its result line."""


@dataclass(frozen=True)
class Outcome:
    """What one process reported, and the most memory it held."""

    seconds: float
    checksum: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Comparison:
    """Both sides of one example, each over all its processes."""

    name: str
    seconds: dict[str, float]
    peak_bytes: dict[str, int | None]
    checksums: list[float]

    @property
    def same(self) -> bool:
        """Whether every checksum agrees with the first, which is NumPy's."""
        wanted = self.checksums[0]
        return all(math.isclose(wanted, got, rel_tol=TOLERANCE) for got in self.checksums[1:])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"from: {', '.join(QUICK)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a quick look")
    parser.add_argument("--rounds", type=int, default=3, help="processes on each side (3)")
    parser.add_argument(
        "--explain", action="store_true", help="first run one example with its dispatch summary"
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in QUICK]
    if unknown:
        parser.error(f"no example named {', '.join(unknown)}; there are {', '.join(QUICK)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def program(name: str, quick: bool) -> list[str]:
    """The program and its arguments, as they follow the interpreter."""
    return [str(HERE / f"{name}.py"), *(["--size", str(QUICK[name])] if quick else [])]


def wait(process: subprocess.Popen[str]) -> int | None:
    """Wait for a process; its peak resident memory in bytes, where the system tells."""
    if sys.platform == "win32":
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Linux and the BSDs count in KiB, macOS in bytes.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(side: str, command: list[str]) -> Outcome:
    """Run one program on one side."""
    # A file, not a pipe: nobody has to empty it while this process waits. The working directory
    # makes `-m dispatcharr` find a checkout that is not installed.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            [*SIDES[side], *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=HERE.parent,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        try:
            peak = wait(process)
        except BaseException:  # an interrupt: leave no process behind
            process.kill()
            process.wait()
            raise
        output.seek(0)
        text = output.read()
    lines = text.strip().splitlines()
    if process.returncode != 0:
        tail = "\n".join(lines[-15:])
        raise ExampleFailed(f"{command[0]} under {side}: exit {process.returncode}\n{tail}")
    found = next((match for line in reversed(lines) if (match := RESULT.match(line))), None)
    if found is None:
        raise ExampleFailed(f"{command[0]} under {side}: no result line in its output\n{text}")
    return Outcome(float(found["seconds"]), float(found["sum"]), peak)


def compare(name: str, rounds: int, quick: bool) -> Comparison:
    """Run an example on both sides in turn."""
    outcomes: dict[str, list[Outcome]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        # who goes first changes, so that neither side always runs on the warmer machine
        for side in list(SIDES)[:: -1 if turn % 2 else 1]:
            outcomes[side].append(run(side, program(name, quick)))
    peaks: dict[str, int | None] = {}
    for side, runs in outcomes.items():
        known = [outcome.peak_bytes for outcome in runs if outcome.peak_bytes is not None]
        peaks[side] = max(known, default=None)
    return Comparison(
        name,
        {side: median(outcome.seconds for outcome in runs) for side, runs in outcomes.items()},
        peaks,
        [outcome.checksum for runs in outcomes.values() for outcome in runs],
    )


def show(comparisons: list[Comparison], failed: list[str], rounds: int) -> Table:
    """The comparisons as a table."""
    # narrow enough for the 80 columns of a terminal or a log
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption=f"medians of {rounds}; speed-up: NumPy's time / dispatcharr's",
    )
    table.add_column("example", no_wrap=True)
    for side in SIDES:
        table.add_column(f"{side}\nseconds", justify="right")
    table.add_column("speed-up", justify="right")
    table.add_column("same\nanswer")
    for side in SIDES:
        table.add_column(f"{side}\npeak MiB", justify="right")
    for item in comparisons:
        plain, ours = item.seconds["NumPy"], item.seconds["dispatcharr"]
        speedup = plain / ours if ours else math.inf
        peaks = [item.peak_bytes[side] for side in SIDES]
        table.add_row(
            item.name,
            f"{plain:.4f}",
            f"{ours:.4f}",
            f"[{'green' if speedup >= 1 else 'red'}]{speedup:.2f}x[/]",
            "[green]yes[/]" if item.same else "[bold red]NO[/]",
            *("-" if peak is None else f"{peak / MIB:.0f}" for peak in peaks),
        )
    for name in failed:
        table.add_row(name, "-", "-", "-", "[bold red]failed[/]", "-", "-")
    return table


def explain(console: Console, name: str, quick: bool) -> bool:
    """Run one example with the dispatch summary that `dispatcharr run` prints by itself."""
    command = [sys.executable, "-m", "dispatcharr", "run", *program(name, quick)]
    shown = f"$ python -m dispatcharr run examples/{name}.py {' '.join(command[5:])}"
    console.print(f"[bold]{escape(shown.rstrip())}[/]", highlight=False)
    sys.stdout.flush()
    status = subprocess.run(command, cwd=HERE.parent, check=False).returncode
    console.print()
    return status == 0


def main() -> None:
    options = arguments()
    names = options.names or list(QUICK)
    console = Console()
    fine = True
    if options.explain:
        fine = explain(console, names[0], options.quick)
    comparisons, failed = [], []
    for name in names:
        console.print(f"comparing {name} ...", style="dim", highlight=False)
        try:
            comparisons.append(compare(name, options.rounds, options.quick))
        except ExampleFailed as error:
            failed.append(name)
            console.print(str(error), style="red", markup=False, highlight=False)
    for item in comparisons:
        if not item.same:
            console.print(f"{item.name}: the checksums differ: {item.checksums}", style="red")
    console.print(show(comparisons, failed, options.rounds))
    console.print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.platform()}",
        style="dim",
        highlight=False,
    )
    if failed or not fine or not all(item.same for item in comparisons):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
