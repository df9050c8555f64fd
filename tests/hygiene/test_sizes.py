"""Files and functions stay short enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES, FUNCTION_LINES = 400, 50
#: What is one long table, or made by a program.
EXEMPT = {
    "dispatcharr/__init__.pyi",
    "dispatcharr/ops/reductions.py",
    "dispatcharr/ops/table.py",
    "dispatcharr/route/defaults.py",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    folders = (
        "dispatcharr", "tools", "tests", "examples", "benchmarks", "asv_benchmarks/benchmarks",
        "docs",
    )  # fmt: skip
    found = [ROOT / "hatch_build.py"]
    for folder in folders:
        found += [p for end in ("py", "pyi") for p in sorted((ROOT / folder).rglob(f"*.{end}"))]
    return [p for p in found if "_build" not in p.parts]


def too_long(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text("utf-8")
    lines = text.count("\n")
    if lines > FILE_LINES and name not in EXEMPT:
        yield f"{name}: {lines} lines, at most {FILE_LINES}"
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, Function) and (length := body_lines(function)) > FUNCTION_LINES:
            yield (
                f"{name}:{function.lineno}: {function.name} has {length} lines, "
                f"at most {FUNCTION_LINES} without its docstring"
            )


def body_lines(function: Function) -> int:
    """Return the lines of a function, signature included, without its docstring."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        length -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return length


def test_every_file_and_function_keeps_the_limits() -> None:
    found = [line for path in sources() for line in too_long(path)]
    assert not found, "\n".join(found)


def test_the_package_is_among_what_is_measured() -> None:
    assert {"engine.py", "make_stub.py", Path(__file__).name} <= {p.name for p in sources()}


@pytest.mark.parametrize("name", sorted(EXEMPT))
def test_no_exemption_outlives_its_file(name: str) -> None:
    assert (ROOT / name).is_file()


def test_a_docstring_does_not_count() -> None:
    body = "\n".join(["    pass"] * 10)
    tree = ast.parse(f'def f():\n    """One.\n\n    Two.\n    """\n{body}\n')
    assert isinstance(tree.body[0], ast.FunctionDef)
    assert body_lines(tree.body[0]) == 11
