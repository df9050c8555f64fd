"""What a report is made of, before it is text or HTML: headings, paragraphs, programs and grids.

Reports are put together once, of these blocks; :func:`as_text` and :func:`as_html` are the two readers. A
cell that is a tuple holds the names of a kernel's operations: text shortens it to what the line has left,
HTML keeps the whole as a tooltip.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dispatcharr.explain.text import WIDTH, clip, shorten, wrapped

__all__ = ["Block", "Code", "Grid", "Heading", "Prose", "as_html", "as_text"]

Cell = str | tuple[str, ...]
_GAP = "  "
_LONGEST_CELL = 30
_NAMES = 48


@dataclass(frozen=True, slots=True)
class Heading:
    """What follows, in a line."""

    text: str


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph."""

    text: str
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that keep their breaks."""

    lines: tuple[str, ...]
    indent: int = 4


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells under a header.

    Attributes
    ----------
    rows : tuple of tuple of Cell
        All of one length.
    align : str
        ``l`` or ``r`` for each column. A last column that is ``l`` wraps.
    header : tuple of str
        Empty for none.
    indent : int
        Columns to leave free in text.
    note : str
        A line below.
    """

    rows: tuple[tuple[Cell, ...], ...]
    align: str
    header: tuple[str, ...] = ()
    indent: int = 2
    note: str = ""


Block = Heading | Prose | Code | Grid


def as_text(blocks: Iterable[Block]) -> str:
    """Return the blocks as plain text within :data:`~dispatcharr.explain.text.WIDTH` columns."""
    lines: list[str] = []
    for block in blocks:
        if lines:
            lines.append("")
        lines.extend(clip(line.rstrip(), WIDTH) for line in _text_of(block))
    return "\n".join(lines)


def _text_of(block: Block) -> list[str]:
    if isinstance(block, Heading):
        return wrapped(block.text, WIDTH)
    if isinstance(block, Code):
        return [" " * block.indent + line for line in block.lines]
    if isinstance(block, Prose):
        margin = " " * block.indent
        return [margin + line for line in wrapped(block.text, WIDTH - block.indent)]
    return _text_of_grid(block)


def _text_of_grid(grid: Grid) -> list[str]:
    rows = [grid.header, *grid.rows] if grid.header else list(grid.rows)
    last = len(grid.align) - 1
    names = [any(isinstance(row[i], tuple) for row in rows) for i in range(last + 1)]
    wraps = grid.align[last] == "l" and not names[last]
    fixed = [
        max((min(len(row[i]), _LONGEST_CELL) for row in rows if isinstance(row[i], str)), default=0)
        for i in range(last + 1)
    ]
    free = WIDTH - grid.indent - len(_GAP) * last
    for i in range(last + 1):
        if names[i] or (i == last and wraps):
            longest = max(len(_plain(row[i])) for row in rows)
            taken = sum(fixed) - fixed[i]
            fixed[i] = max(min(longest, free - taken), 0)
    lines: list[str] = []
    for row in rows:
        cells = [_fitted(cell, width) for cell, width in zip(row, fixed, strict=True)]
        more: list[str] = []
        if wraps:
            cells[last], *more = wrapped(_plain(row[last]), fixed[last])
        lines.append(_line(cells, fixed, grid))
        lines.extend(_line([""] * last + [text], fixed, grid) for text in more)
    if grid.header:
        ruled = sum(fixed) + len(_GAP) * last
        lines.insert(1, " " * grid.indent + "-" * ruled)
    if grid.note:
        margin = " " * grid.indent
        lines.extend(margin + line for line in wrapped(grid.note, WIDTH - grid.indent))
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], grid: Grid) -> str:
    set_out = [
        cell.rjust(width) if side == "r" else cell.ljust(width)
        for cell, width, side in zip(cells, widths, grid.align, strict=True)
    ]
    return " " * grid.indent + _GAP.join(set_out)


def _fitted(cell: Cell, width: int) -> str:
    return shorten(cell, width) if isinstance(cell, tuple) else clip(cell, width)


def _plain(cell: Cell) -> str:
    return " ".join(cell) if isinstance(cell, tuple) else cell


def as_html(blocks: Iterable[Block]) -> str:
    """Return the blocks as an HTML fragment that takes its colours from the page around it."""
    return f'<div class="dispatcharr">{"".join(_html_of(block) for block in blocks)}</div>'


def _html_of(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<p><strong>{html.escape(block.text)}</strong></p>"
    if isinstance(block, Prose):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Code):
        return f"<pre>{html.escape(chr(10).join(block.lines))}</pre>"
    head = ""
    if block.header:
        head = f"<thead>{_html_row('th', block.header, block.align)}</thead>"
    body = "".join(_html_row("td", row, block.align) for row in block.rows)
    note = f"<p><small>{html.escape(block.note)}</small></p>" if block.note else ""
    return f"<table>{head}<tbody>{body}</tbody></table>{note}"


def _html_row(tag: str, cells: Sequence[Cell], align: str) -> str:
    made = [
        f'<{tag} style="text-align:{"right" if side == "r" else "left"}"{_tooltip(cell)}>'
        f"{html.escape(_fitted(cell, _NAMES) if isinstance(cell, tuple) else cell)}</{tag}>"
        for cell, side in zip(cells, align, strict=True)
    ]
    return f"<tr>{''.join(made)}</tr>"


def _tooltip(cell: Cell) -> str:
    return f' title="{html.escape(_plain(cell))}"' if isinstance(cell, tuple) else ""
