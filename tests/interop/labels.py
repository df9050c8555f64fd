"""Whether the text of a call names what its test calls, and nothing that it does not.

The tests' own source is read: names, attributes, keywords and words of strings in what is
registered with a text, and in the functions of the module that this uses.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["unfounded"]

#: Words of the texts that name no code: operands, and what is said of them.
PROSE = frozenset({
    "and", "argument", "array", "arrays", "band", "bins", "bools", "chunk", "closure", "code",
    "column", "columns", "complex", "dates", "equal", "errors", "floats", "for", "from", "gaps",
    "index", "indices", "inside", "ints", "loop", "mask", "more", "number", "one", "ours",
    "out", "over", "protocols", "returning", "rgb", "row", "rows", "same", "shape", "signature",
    "slices", "strings", "the", "tuple", "type", "values", "with", "writing", "wrong", "x2d",
})  # fmt: skip
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]{2,}")


def unfounded(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the texts of a module of tests that name what is not called, and those names."""
    tree = ast.parse(path.read_text("utf-8"))
    defined = _defined(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        text = _text(node.args[0])
        if text is None or not _is_registration(node.func):
            continue
        known = PROSE | _words([*node.args[1:], node.func], defined)
        missing = [word for word in _WORD.findall(text) if word not in known]
        if missing:
            yield text, missing


#: The functions that take a text and what it says.
_REGISTERING = frozenset({"works", "ours", "numpys", "refused", "each", "drawing"})


def _is_registration(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _REGISTERING


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):  # what varies is what is called
        return "".join(str(v.value) for v in node.values if isinstance(v, ast.Constant))
    return None


def _defined(tree: ast.Module) -> dict[str, ast.AST]:
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = node.value
    return found


def _words(nodes: list[ast.expr], defined: dict[str, ast.AST]) -> set[str]:
    """Return the words of some code, and of what it uses of its module."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(nodes)
    while waiting:
        for node in ast.walk(waiting.pop()):
            words: list[str] = []
            if isinstance(node, ast.Name):
                words = [node.id]
            elif isinstance(node, ast.Attribute):
                words = [node.attr]
            elif isinstance(node, ast.keyword) and node.arg:
                words = [node.arg]
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                words = [node.name]
            elif isinstance(node, ast.Constant) and isinstance(node.value, (str, bool)):
                words = _WORD.findall(str(node.value))
            for word in words:
                if word in defined and word not in found:
                    waiting.append(defined[word])
                found.add(word)
    return found
