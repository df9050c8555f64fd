"""What a report is made of, before it is text or HTML: headings, paragraphs, programs and grids.

Reports are put together once, of these blocks; :func:`as_text` and :func:`as_html` are the two
readers. A cell that is a tuple holds the names of a kernel's operations: text shortens it to
what the line has left, HTML keeps the whole as a tooltip.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dispatcharr.explain.text import WIDTH, clip, shorten, wrapped

__all__ = ["Block", "Cell", "Code", "Grid", "Heading", "Prose", "as_html", "as_text"]

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
    title : str
        A line above.
    over : tuple of (int, str) or None
        A second header above the columns from that one to the last.
    """

    rows: tuple[tuple[Cell, ...], ...]
    align: str
    header: tuple[str, ...] = ()
    indent: int = 2
    note: str = ""
    title: str = ""
    over: tuple[int, str] | None = None


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
    margin = " " * grid.indent
    widths = _widths(grid)
    lines = wrapped(grid.title, WIDTH) if grid.title else []
    if grid.over is not None:
        first, text = grid.over
        left = sum(widths[:first]) + len(_GAP) * first
        lines.append(margin + " " * left + text.center(_total(widths[first:])))
    if grid.header:
        lines.append(_line(grid.header, widths, grid))
        lines.append(margin + "-" * _total(widths))
    for row in grid.rows:
        lines.extend(_row_lines(row, widths, grid))
    if grid.note:
        lines.extend(margin + line for line in wrapped(grid.note, WIDTH - grid.indent))
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _widths(grid: Grid) -> list[int]:
    """Return the width of each column; names, or else a last column of text, get what is left."""
    rows = [*([grid.header] if grid.header else []), *grid.rows]
    count = len(grid.align)
    elastic = [any(isinstance(row[i], tuple) for row in rows) for i in range(count)]
    elastic[-1] = elastic[-1] or _wraps(grid)
    longest = [max((len(_plain(row[i])) for row in rows), default=0) for i in range(count)]
    widths = [
        0 if stretches else min(width, _LONGEST_CELL)
        for width, stretches in zip(longest, elastic, strict=True)
    ]
    for i, stretches in enumerate(elastic):
        if stretches:
            widths[i] = max(min(longest[i], WIDTH - grid.indent - _total(widths)), 0)
    return widths


def _wraps(grid: Grid) -> bool:
    return grid.align[-1] == "l" and not any(isinstance(row[-1], tuple) for row in grid.rows)


def _row_lines(row: Sequence[Cell], widths: Sequence[int], grid: Grid) -> list[str]:
    cells = [_fitted(cell, width) for cell, width in zip(row, widths, strict=True)]
    more: list[str] = []
    if _wraps(grid):
        cells[-1], *more = wrapped(_plain(row[-1]), widths[-1])
    blank = [""] * (len(widths) - 1)
    return [_line(shown, widths, grid) for shown in (cells, *([*blank, text] for text in more))]


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
    if block.over is not None:
        first, text = block.over
        span = f'<th colspan="{len(block.align) - first}" style="text-align:center">'
        head = f'<tr><th colspan="{first}"></th>{span}{html.escape(text)}</th></tr>'
    if block.header:
        head = f"<thead>{head}{_html_row('th', block.header, block.align)}</thead>"
    body = "".join(_html_row("td", row, block.align) for row in block.rows)
    note = f"<p><small>{html.escape(block.note)}</small></p>" if block.note else ""
    title = f"<p><strong>{html.escape(block.title)}</strong></p>" if block.title else ""
    return f"{title}<table>{head}<tbody>{body}</tbody></table>{note}"


def _html_row(tag: str, cells: Sequence[Cell], align: str) -> str:
    made = [
        f'<{tag} style="text-align:{"right" if side == "r" else "left"}"{_tooltip(cell)}>'
        f"{html.escape(_fitted(cell, _NAMES) if isinstance(cell, tuple) else cell)}</{tag}>"
        for cell, side in zip(cells, align, strict=True)
    ]
    return f"<tr>{''.join(made)}</tr>"


def _tooltip(cell: Cell) -> str:
    return f' title="{html.escape(_plain(cell))}"' if isinstance(cell, tuple) else ""
