"""What is known in one place is named in one place: settings, operations, backends."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dispatcharr import backends
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.table import ELEMENTWISE, GENERATORS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dispatcharr"

#: Names of operations or backends that a file may spell, and why. ``*`` stands for all of them.
SPELLED: dict[str, dict[str, str]] = {
    "bench/": {"threads": "how many there are, and Dask's name of a scheduler"},
    "_config.py": {
        "log": "a level of on_fallback",
        "threads": "the option of that name",
    },
    "cli/info.py": {
        "serial threads": "columns of the profile, which are named after the crews measured",
    },
    "engine.py": {
        "astype": "what assigns values that are on a device",
    },
    "explain/program.py": {
        "add invert mod pow": "Python's names of operators, with the symbols to print them by",
    },
    "explain/report.py": {"where": "the title of a column"},
    "expr/build.py": {"divide": "a kind of floating-point error"},
    "face/slots.py": {
        "abs add invert mod pow": "Python's names of operators, as the C module numbers them",
    },
    "face/chosen.py": {"where": "the keyword of that name, which takes a mask"},
    "face/dask_chunks.py": {"arange full": "what Dask asks a backend for"},
    "face/effects.py": {"*": "what NumPy's functions and methods do to their arguments, by name"},
    "face/creation.py": {
        "arange full linspace": "their signatures are written by hand, one by one",
    },
    "face/fallback.py": {"log": "a level of on_fallback"},
    "face/tape.py": {
        "pow power": "some of its exponents are other functions, which is told by their values",
        "where": "it has no ufunc, and its first operand is not of the others' dtype",
    },
    "face/functions.py": {
        "astype clip where": "their signatures are not those of ufuncs, and so are written by hand",
    },
    "face/ndarray.py": {
        "astype clip conj conjugate divmod": "methods whose signatures are not those of a function",
    },
    "face/operators.py": {
        "pow": "Python's name of the operator that NumPy computes in other ways too: x**2",
        "log": "NumPy's mode for floating-point errors that are to be heard",
    },
    "face/requests.py": {
        "divide": "a kind of floating-point error",
        "mean": "NumPy adds integers up as float64 in mean alone",
        "where": "the keyword of that name, which takes a mask",
    },
    "face/reductions.py": {
        "max min": "the rows that amax and amin stand for",
        "where": "the keyword of that name, which takes a mask",
    },
    "face/scans_masks.py": {"where": "the function of that name, of a condition alone"},
    "face/scans_errors.py": {"divide": "a kind of floating-point error"},
    "kernels/blocks.py": {
        "divide": "a kind of floating-point error",
        "log": "NumPy's mode for floating-point errors that are to be heard",
    },
    "kernels/cuda_complex.py": {"add mean prod": "which sums these are, and methods of a fold"},
    "kernels/cuda_extremes.py": {"add": "a method of a fold: to take one element more"},
    "kernels/cuda_fold.py": {"add": "a method of a fold: to take one element more"},
    "kernels/cuda_folds.py": {"*": "the table of the folds that make each reduction"},
    "kernels/cuda_moments.py": {
        "add": "a method of a fold: to take one element more",
        "multiply square sqrt std subtract": "what NumPy computes moments by",
    },
    "kernels/cuda_sums.py": {
        "add": "a method of a fold: to take one element more",
        "mean nanmean nansum sum": "which sums these are",
    },
    "kernels/cuda_text.py": {
        "arange full linspace": "the generators that are made in registers",
        "atan2 divide exp float_power hypot log power sqrt tan tanh": "cost classes",
    },
    "kernels/custom/text.py": {
        "ceil copysign fabs floor rint sqrt trunc": "functions of C that are instructions of LLVM",
    },
    "kernels/compiled_reduce.py": {"log": "NumPy's mode for errors that are to be heard"},
    "kernels/llvm_fold.py": {"*": "the table of the instructions that fold each reduction"},
    "kernels/llvm_program.py": {
        "arange full linspace": "the instructions that count an element's place out",
    },
    "kernels/simd_math.py": {"*": "functions of the C mathematical library, by its names"},
    "plan/reference.py": {
        "clip fmax fmin maximum minimum": "which of two equal zeros they give is not promised",
        "divide sqrt": "cost classes",
    },
    "route/": {
        "serial threads": "columns of the profile, which are named after the crews measured",
    },
    "devices/figures.py": {"*": "cost classes, some of which are named after their operation"},
    "route/device_measures.py": {"*": "cost classes, and the sum of what is measured"},
    "route/defaults.py": {"*": "cost classes, some of which are named after their operation"},
    "route/probes.py": {"*": "the operation that each cost class is measured by"},
}


@cache
def trees() -> dict[str, ast.Module]:
    """Return the parsed sources of the package by their path in it."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def operations() -> set[str]:
    rows = {name for row in ELEMENTWISE for name in (row.name, *row.aliases)}
    return rows | {row.name for row in (*REDUCTIONS, *GENERATORS)}


def own_backends() -> set[str]:
    modules = {module.name for module in pkgutil.iter_modules(backends.__path__)}
    return modules - {"base", "cuda_library", "host", "late", "library", "placed", "registry"}


def spelled(tree: ast.Module, names: set[str]) -> set[tuple[str, int]]:
    """Return the strings of ``tree`` that are one of ``names``, with their lines.

    Lists of attributes and of exported names are left out: those are names of Python's.
    """
    found = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant) and node.value in names:
            found.add((str(node.value), node.lineno))
        if not _lists_names(node):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _lists_names(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id in ("__all__", "__slots__")
        for target in node.targets
    )


def allowed(path: str) -> set[str]:
    """Return the names that the file, or its folder, may spell."""
    found = [
        words
        for place, reasons in SPELLED.items()
        if place == path or (place.endswith("/") and path.startswith(place))
        for words in reasons
    ]
    return set(" ".join(found).split())


def environment_reads(tree: ast.Module) -> Iterator[int]:
    """Return the lines of ``tree`` that reach for the environment."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    for node in ast.walk(tree):
        by_attribute = isinstance(node, ast.Attribute) and node.attr in names
        by_import = isinstance(node, ast.ImportFrom) and names & {a.name for a in node.names}
        if by_attribute or by_import:
            yield node.lineno


def test_the_environment_is_read_in_one_place() -> None:
    found = {path: list(environment_reads(tree)) for path, tree in trees().items()}
    assert found.pop("_config.py"), "the scan finds nothing, not even where it must"
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_operations_and_backends_are_named_by_their_tables_only() -> None:
    names = operations() | own_backends()
    assert {"add", "sum", "arange", "threads"} <= names
    found = []
    for path, tree in trees().items():
        may = allowed(path)
        if path.startswith(("ops/", "backends/")) or "*" in may:
            continue
        for name, line in sorted(spelled(tree, names - may), key=lambda one: one[1]):
            found.append(f"{path}:{line}: {name!r}")
    assert not found, (
        "Ask the row or the backend, or say in SPELLED why the name must stand here:\n"
        + "\n".join(found)
    )


def test_no_exemption_outlives_what_it_is_for() -> None:
    names = operations() | own_backends()
    stale = []
    for place, reasons in SPELLED.items():
        files = [tree for path, tree in trees().items() if path.startswith(place)]
        there = {name for tree in files for name, _ in spelled(tree, names)}
        for words in reasons:
            unused = set() if words == "*" and there else set(words.split()) - there
            stale += [f"{place}: {name}" for name in sorted(unused)]
    assert not stale, "\n".join(stale)


def test_backends_are_not_told_apart_by_their_class() -> None:
    """A trait or a reason serves every backend, an imported class only one."""
    modules = {f"dispatcharr.backends.{name}" for name in own_backends()}
    found = [
        f"{path}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and node.module in modules)
        or (isinstance(node, ast.Import) and modules & {alias.name for alias in node.names})
    ]
    assert not found, found
