"""Words for figures, and text that fits: units, shortened programs, clipped and wrapped cells.

Times have three digits and one of ns, us, ms, s; memory counts in powers of ten (kB, MB, GB), as
NumPy's users count elements. Nothing here writes colour codes or leaves ASCII: text goes to logs
too.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

__all__ = [
    "WIDTH", "clip", "in_bytes", "in_count", "in_ratio", "in_seconds", "plural", "shape_of",
    "shorten", "wrapped",
]  # fmt: skip

#: Columns that every text of this package fits into.
WIDTH = 80


def in_seconds(seconds: float | None) -> str:
    """Return a time in words; ``-`` where there is none.

    Examples
    --------
    >>> in_seconds(0.0123), in_seconds(4.5e-5), in_seconds(0.99996), in_seconds(None)
    ('12.3 ms', '45.0 us', '1.00 s', '-')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds == 0:
        return "0 s"
    if seconds < 0:
        return f"-{in_seconds(-seconds)}"
    for unit, size in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds)} s"


def in_bytes(count: float) -> str:
    """Return an amount of memory in words.

    Examples
    --------
    >>> in_bytes(80_000_000), in_bytes(8), in_bytes(1.5e12)
    ('80.0 MB', '8 B', '1.50 TB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit, size in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 999.5 * size:
            return f"{_three_digits(count / size)} {unit}"
    return f"{_three_digits(count / 1e12)} TB"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def in_count(count: int) -> str:
    """Return a whole number with its thousands set apart."""
    return f"{count:,}"


def in_ratio(part: float, whole: float) -> str:
    """Return ``part / whole`` as a factor; ``-`` where there is none.

    Examples
    --------
    >>> in_ratio(3.0, 2.0), in_ratio(1.0, 0.0), in_ratio(300.0, 1.0)
    ('1.50x', '-', '300x')
    """
    if whole == 0 or not math.isfinite(part) or not math.isfinite(whole):
        return "-"
    ratio = part / whole
    if 0 < ratio < 0.005:
        return "<0.01x"
    return f"{_three_digits(ratio)}x"


def plural(count: int, noun: str) -> str:
    """Return a number of things.

    Examples
    --------
    >>> plural(1, "kernel"), plural(1200, "kernel")
    ('1 kernel', '1,200 kernels')
    """
    return f"{in_count(count)} {noun}{'' if count == 1 else 's'}"


def shape_of(shape: Sequence[int]) -> str:
    """Return an iteration space in words.

    Examples
    --------
    >>> shape_of((2000, 1500)), shape_of((10,)), shape_of(())
    ('2,000 x 1,500 = 3,000,000 elements', '10 elements', '1 element')
    """
    elements = plural(math.prod(shape), "element")
    if len(shape) < 2:
        return elements
    return f"{' x '.join(in_count(extent) for extent in shape)} = {elements}"


def shorten(names: Sequence[str], width: int) -> str:
    """Return ``names`` on one line, the middle ones counted where they do not fit.

    Examples
    --------
    >>> shorten(["sin", "square", "cos", "square", "add", "sum"], 24)
    'sin square cos (+2) sum'
    """
    whole = " ".join(names)
    if len(whole) <= width or len(names) < 3:
        return clip(whole, width)
    head = ""
    for kept in range(1, len(names) - 1):
        longer = " ".join((*names[:kept], f"(+{len(names) - kept - 1})", names[-1]))
        if len(longer) > width:
            break
        head = longer
    return head or clip(f"(+{len(names) - 1}) {names[-1]}", width)


def clip(text: str, width: int) -> str:
    """Return ``text`` on one line of at most ``width`` columns."""
    text = " ".join(text.split("\n"))
    return text if len(text) <= width else f"{text[: max(width - 2, 0)]}.."[: max(width, 0)]


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a paragraph; a word longer than a line is broken."""
    return textwrap.wrap(text, max(width, 8), break_on_hyphens=False) or [""]
