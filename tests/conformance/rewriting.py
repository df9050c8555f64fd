"""NumPy's test files with their imports turned to the package under test.

Public modules of NumPy become this package's, names that it lacks stay missing, and private modules
(``numpy._core`` and the like, whose parts NumPy's tests take in hand) stay NumPy's. Lines keep
their numbers, so that tests which look at the place of a warning find it.
"""

from __future__ import annotations

import ast

__all__ = ["rewritten"]

#: Old names of private modules, and what checks how NumPy itself was built.
_PRIVATE = ("numpy.core", "numpy.f2py", "numpy.distutils")


def rewritten(source: str, package: str = "dispatcharr") -> str:
    """Return the text of a test file with its imports of NumPy's public modules replaced."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        made = _replacement(node, package)
        if made is not None:
            _put(lines, node, made)
    return "\n".join(lines) + "\n"


def _is_public(module: str) -> bool:
    if module != "numpy" and not module.startswith("numpy."):
        return False
    if any(module == name or module.startswith(name + ".") for name in _PRIVATE):
        return False
    return not any(part.startswith("_") for part in module.split("."))


def _renamed(module: str, package: str) -> str:
    return package + module.removeprefix("numpy")


def _replacement(node: ast.AST, package: str) -> str | None:
    """Return the statement that stands for an import, None for all else."""
    if isinstance(node, ast.Import):
        if not any(alias.name.partition(".")[0] == "numpy" for alias in node.names):
            return None
        return "; ".join([_import(alias, package) for alias in node.names])
    if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_public(node.module or ""):
        names = ", ".join([ast.unparse(alias) for alias in node.names])
        return f"from {_renamed(node.module or '', package)} import {names}"
    return None


def _import(alias: ast.alias, package: str) -> str:
    root = alias.name.partition(".")[0]
    if root != "numpy" or (alias.asname and not _is_public(alias.name)):
        return f"import {ast.unparse(alias)}"
    if alias.asname:
        return f"import {_renamed(alias.name, package)} as {alias.asname}"
    # `import numpy.linalg` loads the module and binds the root alone.
    loaded = _renamed(alias.name, package) if _is_public(alias.name) else alias.name
    return f"import {loaded}; import {package} as numpy"


def _put(lines: list[str], node: ast.AST, made: str) -> None:
    """Put a statement of one line in the place of ``node``, which may have several."""
    assert isinstance(node, ast.stmt)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[first].encode()[: node.col_offset].decode()
    after = lines[last].encode()[node.end_col_offset or 0 :].decode()
    lines[first : last + 1] = [before + made + after, *[""] * (last - first)]
