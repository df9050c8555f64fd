"""Loops that are to be vectorised to a width: whether LLVM will manage.

LLVM writes to the standard error stream, where nobody here can stop it, that a loop with such a
hint was left as it is. So a text whose loops might be is compiled without its hints before. All
that is checked of a vectorised loop is checked without a hint too, in silence.
"""

from __future__ import annotations

import re

__all__ = ["are_risky", "are_taken", "without"]

_HINT = re.compile(r'!"llvm\.loop\.vectorize\.(?=width"|enable", i1 true)')
_KEPT = "dispatcharr.vectorize."
_DECLARED = re.compile(r"^declare [^@\n]*@(?!llvm\.|_ZGV)(?!.*vector-function-abi-variant)", re.M)
_DEFINED = re.compile(r"^define [^\n]*\{\n.*?^\}", re.M | re.S)
_BRANCH = re.compile(r"^ *(br|switch|indirectbr) ", re.M)
_LOOP = re.compile(r"^(!\d+) = distinct !\{(.*)\}$", re.M)
_NODE = re.compile(r'^(!\d+) = !\{!"([\w.]+)"', re.M)


def are_risky(text: str) -> bool:
    """Return whether a text has hints, and what may keep a loop from being vectorised.

    That are functions without SIMD variants, and ways through a body that differ, as a loop in it.
    """
    if _HINT.search(text) is None:
        return False
    if _DECLARED.search(text) is not None:
        return True
    return any(
        "alwaysinline" in each[: each.index("\n")] and _BRANCH.search(each)
        for each in _DEFINED.findall(text)
    )


def without(text: str) -> str:
    """Return the text with its hints made names that mean nothing to LLVM."""
    return _HINT.sub(f'!"{_KEPT}', text)


def are_taken(optimised: str) -> bool:
    """Return whether all loops left of a text from :func:`without` have been vectorised."""
    nodes = {number: name for number, name in _NODE.findall(optimised)}
    for _, listed in _LOOP.findall(optimised):
        names = [nodes.get(each.strip(), "") for each in listed.split(",")]
        if "llvm.loop.isvectorized" not in names and any(n.startswith(_KEPT) for n in names):
            return False
    return True
