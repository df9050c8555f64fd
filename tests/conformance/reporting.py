"""The outcome as a table, as JSON, and as a badge."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import Any

import numpy

from comparing import Comparison

__all__ = ["as_data", "badge", "share", "table"]

Compared = Mapping[tuple[str, str], Comparison]


def share(comparisons: Iterable[Comparison]) -> tuple[int, int]:
    """Return how many tests passed, and of how many."""
    held = list(comparisons)
    return sum(one.passed for one in held), sum(one.total for one in held)


def percent(passed: int, total: int) -> str:
    """Return a share as text, rounded down: 100 means all."""
    return f"{passed * 10000 // total / 100:.2f}" if total else "-"


def table(compared: Compared) -> str:
    """Return files by modes in percent of what passes with NumPy."""
    files, modes = _axes(compared)
    rows = [["file", "tests", *modes]]
    for file in files:
        cells = [compared.get((file, mode)) for mode in modes]
        total = max(one.total for one in cells if one is not None)
        shown = ["" if one is None else percent(one.passed, one.total) for one in cells]
        rows.append([file, str(total), *shown])
    sums = [share(one for (_, m), one in compared.items() if m == mode) for mode in modes]
    rows.append(["all", str(max(total for _, total in sums)), *[percent(*one) for one in sums]])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def operations(comparisons: Iterable[Comparison]) -> dict[str, int]:
    """Return how many elementwise operations were planned, and how many of them waited."""
    held = list(comparisons)
    return {
        "planned": sum(one.planned for one in held),
        "waited": sum(one.waited for one in held),
    }


def _axes(compared: Compared) -> tuple[list[str], list[str]]:
    files = list(dict.fromkeys(file for file, _ in compared))
    return files, list(dict.fromkeys(mode for _, mode in compared))


def as_data(compared: Compared) -> dict[str, Any]:
    """Return everything that was found, for JSON."""
    files, modes = _axes(compared)
    found = {m: [one for (_, at), one in compared.items() if at == m] for m in modes}
    sums = {mode: share(held) for mode, held in found.items()}
    return {
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "modes": {
            mode: {
                "passed": passed,
                "of": total,
                "percent": percent(passed, total),
                "elementwise": operations(found[mode]),
            }
            for mode, (passed, total) in sums.items()
        },
        "files": {
            file: {
                mode: {"of": one.total, "failed": one.failures}
                for mode in modes
                if (one := compared.get((file, mode))) is not None
            }
            for file in files
        },
    }


def badge(data: Mapping[str, Any]) -> str:
    """Return the worst mode's share of what :func:`as_data` gave, as a picture (SVG)."""
    worst = min(data["modes"].values(), key=lambda one: one["passed"] / one["of"])
    label, text = "NumPy's own tests", f"{worst['percent']} %"
    left, right = 7 * len(label) + 10, 7 * len(text) + 10
    colour = "forestgreen" if float(worst["percent"]) >= 99 else "darkgoldenrod"
    return _BADGE.format(
        left=left, right=right, width=left + right, label=label, text=text, colour=colour,
        label_at=left / 2, text_at=left + right / 2,
    )  # fmt: skip


_BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" \
aria-label="{label}: {text}">
<title>{label}: {text}</title>
<rect width="{left}" height="20" fill="dimgray"/>
<rect x="{left}" width="{right}" height="20" fill="{colour}"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{label_at}" y="14">{label}</text>
<text x="{text_at}" y="14">{text}</text>
</g>
</svg>
"""
