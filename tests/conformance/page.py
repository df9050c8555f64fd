"""The page about all this, docs/conformance.md: a run writes its figures, the list its groups."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from comparing import Difference

__all__ = ["figures", "groups", "with_section"]


def with_section(text: str, name: str, made: str) -> str:
    """Return ``text`` with ``made`` between the comments that mark the section ``name``.

    Raises
    ------
    ValueError
        The comments are not there.
    """
    begin, end = f"<!-- {name}: written by a run -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no section {name!r}: {begin.strip()} ... {end.strip()}")
    return before + begin + made + end + after


def figures(data: Mapping[str, Any]) -> str:
    """Return the table of shares by modes, of what ``reporting.as_data`` gave."""
    python = data["python"].rpartition(".")[0]
    rows = [
        f"Measured with NumPy {data['numpy']} and Python {python}:",
        "",
        "| mode | files | pass with NumPy | pass here | share | planned operations that waited |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for mode, one in data["modes"].items():
        planned, waited = one["elementwise"]["planned"], one["elementwise"]["waited"]
        cells = [
            f"`{mode}`",
            str(sum(mode in found for found in data["files"].values())),
            f"{one['of']:,}",
            f"{one['passed']:,}",
            f"{one['percent']} %",
            f"{waited:,} of {planned:,}" if planned else "-",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def groups(known: Iterable[Difference]) -> str:
    """Return the groups of the list with their reasons, the largest first."""
    items = []
    for one in sorted(known, key=lambda one: -len(one.tests)):
        count = f"{len(one.tests)} test{'s' * (len(one.tests) > 1)}"
        modes = f" ({', '.join([f'`{mode}`' for mode in one.modes])})" if one.modes else ""
        items.append(
            textwrap.fill(
                f"- {count}{modes}: {' '.join(one.reason.split())}", 140, subsequent_indent="  ",
                break_long_words=False, break_on_hyphens=False,
            )
        )  # fmt: skip
    return "\n".join(items) + "\n"
