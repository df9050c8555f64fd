"""The commands and their options. What they do is done elsewhere and imported when asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from dispatcharr._errors import DispatcharrError
from dispatcharr._version import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line after the program's name; that of this process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        outcome = command_line.main(given, prog_name="dispatcharr", standalone_mode=False)
        if not callable(outcome):
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        print("dispatcharr: interrupted", file=sys.stderr)
        return 130
    except DispatcharrError as error:
        print(f"dispatcharr: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has left, as `head` does. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    # A program runs out here, where its exceptions are no business of click's.
    return outcome() if callable(outcome) else int(outcome or 0)


_FILE = click.Path(dir_okay=False, writable=True)
_FOLDER = click.Path(file_okay=False, writable=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="dispatcharr")
def command_line() -> None:
    """Write NumPy; each operation runs where it is fastest."""


@command_line.command(context_settings={"allow_interspersed_args": False})
@click.option("-m", "is_module", is_flag=True, help="TARGET is a module's name, as for python -m.")
@click.option("--backend", metavar="NAME", help="Run everything on this backend.")
@click.option(
    "--json",
    type=_FILE,
    metavar="FILE",
    help="Write what was dispatched to FILE instead.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not print the summary.")
@click.argument("target")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    target: str,
    arguments: tuple[str, ...],
    is_module: bool,
    backend: str | None,
    json: str | None,
    quiet: bool,
) -> partial[int]:
    """Run a program with its "import numpy" answered by dispatcharr.

    TARGET is a script, a folder or zip file with a __main__.py, or after -m a module. What follows
    it belongs to the program, which runs as python would run it. Its own files are redirected;
    installed packages keep NumPy, and so do processes that it starts otherwise than by fork.
    A summary of what ran where is printed to standard error at the end.
    """
    from dispatcharr.cli.run import Request
    from dispatcharr.cli.run import run as run_program

    if target == "-":
        raise click.UsageError("a program cannot be read from standard input; save it to a file")
    if json is not None and not os.path.isdir(os.path.dirname(os.path.abspath(json))):
        raise click.BadParameter(f"there is no folder for {json!r}", param_hint="'--json'")
    if backend is not None:
        _force(backend)
    return partial(run_program, Request(target, arguments, is_module, json, quiet))


def _force(backend: str) -> None:
    from dispatcharr.face.context import set_backend

    try:
        set_backend(backend)
    except DispatcharrError as error:
        raise click.BadParameter(str(error), param_hint="'--backend'") from None


@command_line.command()
@click.option("--json", is_flag=True, help="Print data instead of text.")
def info(json: bool) -> None:
    """Show the machine, the backends and the settings in force."""
    from dispatcharr.cli.info import info

    info(json)


@command_line.command()
@click.argument("expression")
@click.option("--size", default="1e6", show_default=True, help="Elements, or a shape: 2000x2000.")
@click.option("--dtype", default="float64", show_default=True, help="dtype of the arrays.")
@click.option("--json", is_flag=True, help="Print data instead of text.")
def explain(expression: str, size: str, dtype: str, json: bool) -> None:
    """Show how EXPRESSION would be planned, and its price on each backend.

    Every name in it stands for an array of random numbers between 0 and 1:

        dispatcharr explain 'np.sin(a)**2 + np.cos(b)**2' --size 1e7
    """
    from dispatcharr.cli.explain import explain

    explain(expression, size, dtype, json)


@command_line.command()
@click.option("--quick", is_flag=True, help="Measure less, in a few seconds.")
@click.option("--json", is_flag=True, help="Print data instead of text.")
def calibrate(quick: bool, json: bool) -> None:
    """Measure this machine, so that prices are its own."""
    from dispatcharr.cli.calibrate import calibrate

    calibrate(quick, json)


@command_line.command()
@click.option("--quick", is_flag=True, help="Two sizes, a look in a minute or two; no claim.")
@click.option("--sizes", metavar="N,N,...", help="Numbers of elements, such as 1e4,1e6.")
@click.option("--dtype", default="float64", show_default=True, help="float64 or float32.")
@click.option("--expressions", metavar="NAME,...", help="Some of them; a wrong name lists all.")
@click.option("--peers", metavar="NAME,...", help="Some of them, or none; a wrong name lists all.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Of measuring; 300, or 15 with --quick.",
)
@click.option("--json", type=_FILE, metavar="FILE", help="Write everything measured.")
@click.option("--plots", type=_FOLDER, metavar="FOLDER", help="Draw it; needs matplotlib.")
@click.option("--report", type=_FILE, metavar="FILE", help="Write a page of Markdown.")
def bench(**asked: Any) -> int:
    """Measure expressions against NumPy and its peers.

    Under NumPy, dispatcharr, and whichever of numexpr, numba, JAX, torch, blosc2 and dask are
    installed, in one run, in turn. Answers are compared first; if one of ours is wrong, the exit
    status is 1. Time spent compiling comes on top of the budget.
    """
    from dispatcharr.cli.bench import Request, bench

    return bench(Request(**asked))
