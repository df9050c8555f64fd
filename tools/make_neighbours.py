"""Write ``docs/neighbours.md``: what comes of other libraries' calls with our arrays.

The rows are those that the tests in ``tests/interop`` run. They are read with stand-ins in the
place of the libraries, so that the page can be checked anywhere. The versions are the installed
ones; of what is not installed here the page keeps the version that it has.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

__all__ = ["PAGE", "is_current", "make_page", "registered"]

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "interop"
PAGE = ROOT / "docs" / "neighbours.md"
#: The distributions whose calls are Python's or the interpreter's own.
_OF_PYTHON = "none"


def registered() -> list[Any]:
    """Return the libraries in the order of their names, from the modules of the tests."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    import neighbours

    neighbours.load = lambda name: MagicMock(name=name)
    for path in sorted(TESTS.glob("test_*.py")):
        name = f"interop_page_{path.stem}"
        if path.stem == "test_page" or name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"make_neighbours: {path} cannot be loaded")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    last = {library.name: library for library in neighbours.KNOWN}
    return sorted(last.values(), key=lambda library: library.name.lower())


def make_page(libraries: list[Any]) -> str:
    """Return the text of the page."""
    parts = [_HEAD.rstrip()]
    rows = ["| library | version | calls | stays ours | NumPy's | needs `numpy.asarray(x)` |"]
    rows.append("| --- | --- | --: | --: | --: | --: |")
    for library in libraries:
        count = Counter(call.result for call in library.calls)
        numbers = [len(library.calls), *(count[kind] for kind in _kinds()[1:])]
        cells = [f"[{library.name}](#{_anchor(library.name)})", _version(library)]
        rows.append(f"| {' | '.join([*cells, *map(str, numbers)])} |")
    parts.append("\n".join(rows))
    for library in libraries:
        title = f"## {library.name}"
        lines = ["| call | result |", "| --- | --- |"]
        for call in library.calls:
            note = f"; {call.note}" if call.note else ""
            lines.append(f"| `{call.text.replace('|', chr(92) + '|')}` | {call.result}{note} |")
        parts.append(title + "\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _kinds() -> tuple[str, ...]:
    from neighbours import NUMPYS, OURS, REFUSED, WORKS

    return WORKS, OURS, NUMPYS, REFUSED


def _version(library: Any) -> str:
    if library.distribution == _OF_PYTHON:
        return ".".join(map(str, sys.version_info[:2]))
    # Without what a build adds, as in 2.0+cpu.
    return str(library.version).partition("+")[0] or _former(library.name)


def _former(name: str) -> str:
    """Return the version that the page gives."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    found = re.search(rf"^\| \[{re.escape(name)}\][^|]*\| ([^|]*) \|", text, re.MULTILINE)
    return found[1] if found else ""


def _anchor(title: str) -> str:
    """Return what the documentation's headings are linked by."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


_HEAD = """\
# Neighbours

What comes of other libraries' calls when they are given arrays of dispatcharr, `x` and `y` below.
The tests in `tests/interop` run every call with NumPy's arrays, with ours, and with ours whose
values were not computed yet, and compare; this page is written from their list, by
`make neighbours`.

- *works*: the result is what NumPy's arrays give, and holds no array of NumPy's kind.
- *works, stays our type*: its arrays are of dispatcharr too.
- *comes back as NumPy's*: its arrays are NumPy's own. Operations on them are NumPy's, until one of
  ours takes part: `np.asarray(result)` makes it ours without a copy.
- *needs `numpy.asarray(x)`*: the library takes only what is exactly a `numpy.ndarray`, and raises
  an error. `numpy.asarray(x)` is one, without a copy; so is `x.to_numpy()`. Where nobody catches
  the error, Python, threads and IPython print it with a note that says so and names the array.

## All of them
"""


def _without_versions(page: str) -> str:
    return re.sub(r"^(\| \[[^|]*\|)[^|]*\|", r"\1 |", page, flags=re.MULTILINE)


def is_current(libraries: list[Any]) -> bool:
    """Return whether the page is what would be written now, versions aside."""
    if not PAGE.exists():
        return False
    return _without_versions(PAGE.read_text("utf-8")) == _without_versions(make_page(libraries))


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with ``--check`` say whether it is current."""
    parser = argparse.ArgumentParser(description="Write the page of the neighbours.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is stale")
    libraries = registered()
    if parser.parse_args(arguments).check:
        if is_current(libraries):
            return 0
        print(f"{PAGE.relative_to(ROOT)} is stale: run `make neighbours`", file=sys.stderr)
        return 1
    PAGE.write_text(make_page(libraries), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
