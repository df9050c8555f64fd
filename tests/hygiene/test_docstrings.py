"""Public names are documented in numpydoc's form, and every example in the package runs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import dispatcharr

ROOT = Path(__file__).parents[2]
ADDED = {
    name: getattr(dispatcharr, name)
    for name in sorted(set(dispatcharr.__all__) - set(numpy.__all__))
}
CALLABLES = [
    name
    for name, value in ADDED.items()
    if callable(value) and not (isinstance(value, type) and issubclass(value, Exception))
]

# In a process of their own: some examples set options of the process. Docstrings that are NumPy's,
# handed on, are not ours to run.
RUN_EXAMPLES = """
import ast, doctest, importlib, pathlib, pkgutil, sys
from inspect import cleandoc
import dispatcharr
finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
for found in pkgutil.walk_packages(dispatcharr.__path__, "dispatcharr."):
    module = None if "__main__" in found.name else importlib.import_module(found.name)
    if (getattr(module, "__file__", None) or "").endswith(".py"):
        nodes = ast.walk(ast.parse(pathlib.Path(module.__file__).read_text("utf-8")))
        texts = [node.value for node in nodes if isinstance(node, ast.Constant)]
        own = {cleandoc(text) for text in texts if isinstance(text, str)}
        for test in finder.find(module, found.name):
            if cleandoc(test.docstring) in own:  # indented or not, as the Python has it
                runner.run(test)
failed, tried = runner.summarize(verbose=False)
print(tried)
sys.exit(bool(failed))
"""


def sections(docstring: str) -> dict[str, str]:
    """Return the text under each underlined heading; the summary is under the empty one."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", docstring, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented(name: str) -> dict[str, str]:
    docstring = inspect.getdoc(ADDED[name])
    assert docstring, f"{name} has no docstring"
    return sections(docstring)


def missing_parts(parts: dict[str, str], parameters: set[str]) -> set[str]:
    """Return what numpydoc's form asks for and ``parts`` lacks."""
    found = set()
    summary = parts[""].strip().splitlines()[0]
    if not summary.endswith((".", ";", ":")) or len(summary) > 99:
        found.add("a summary of one line")
    listed = parts.get("Parameters", "")
    found |= {p for p in parameters if not re.search(rf"^\**{p}\b", listed, re.MULTILINE)}
    if ">>>" not in parts.get("Examples", ""):
        found.add("an example")
    return found


def parameters_of(name: str) -> set[str]:
    return {p for p in inspect.signature(ADDED[name]).parameters if p != "self"}


def test_every_added_name_says_what_it_is() -> None:
    bare = [name for name in ADDED if not inspect.getdoc(ADDED[name])]
    assert not bare


@pytest.mark.parametrize("name", CALLABLES)
def test_callables_are_documented_in_full(name: str) -> None:
    assert missing_parts(documented(name), parameters_of(name)) == set()


def test_a_docstring_that_lacks_something_is_found() -> None:
    parts = sections("Do it\n\nParameters\n----------\nfirst : int\n    One.\n")
    assert missing_parts(parts, {"first", "second"}) == {
        "a summary of one line",
        "an example",
        "second",
    }


def test_every_example_in_the_package_runs(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "DISPATCHARR_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_EXAMPLES],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= 2 * len(CALLABLES)


def test_every_module_says_its_policy() -> None:
    files = sorted((ROOT / "dispatcharr").rglob("*.py"))
    bare = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if not re.match(r'r?"""\S', path.read_text("utf-8"))
    ]
    assert not bare
