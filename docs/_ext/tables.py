"""Directives that turn the package's own tables into pages, so that no list is kept by hand.

``op-table`` lists the rows of the op table, ``environment-table`` the environment variables. A part
of the package that is missing gives a sentence in its place and not a failed build.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _attribute(module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"dispatcharr.{module}"), name, None)
    except ModuleNotFoundError:
        return None


def _paragraph(text: str) -> nodes.paragraph:
    return nodes.paragraph("", text)


def _cell(text: str, *, code: bool) -> nodes.entry:
    if not code or not text:
        return nodes.entry("", _paragraph(text))
    words: list[nodes.Node] = []
    for word in text.split(", "):
        words += [nodes.Text(", ")] if words else []
        words.append(nodes.literal(word, word))
    return nodes.entry("", nodes.paragraph("", "", *words))


def _row(cells: Sequence[str], code: Sequence[bool]) -> nodes.row:
    return nodes.row("", *[_cell(text, code=c) for text, c in zip(cells, code, strict=True)])


def _table(
    titles: Sequence[str], code: Sequence[bool], rows: Iterable[Sequence[str]]
) -> nodes.table:
    """Return a table; the columns marked in `code` are set as code."""
    plain = [False] * len(titles)
    group = nodes.tgroup("", cols=len(titles))
    group += [nodes.colspec(colwidth=1) for _ in titles]
    group += nodes.thead("", _row(titles, plain))
    group += nodes.tbody("", *[_row(cells, code) for cells in rows])
    return nodes.table("", group, classes=["colwidths-auto"])


def _section(title: str, *content: nodes.Node) -> nodes.section:
    section = nodes.section("", nodes.title("", title), *content)
    section["ids"].append(nodes.make_id(title))
    return section


class OpTable(SphinxDirective):
    """One section for each kind of row: elementwise operations, reductions, generators."""

    def run(self) -> list[nodes.Node]:
        sections = [
            self._kind("Elementwise", "ops.table", "ELEMENTWISE"),
            self._kind("Reductions", "ops.reductions", "REDUCTIONS"),
            self._kind("Generators", "ops.table", "GENERATORS"),
        ]
        found = [section for section in sections if section is not None]
        return found or [_paragraph("This build of the documentation found no op table.")]

    def _kind(self, title: str, module: str, name: str) -> nodes.section | None:
        rows = _attribute(module, name)
        if not rows:
            return None
        cells = sorted(self._cells(row) for row in rows)
        used = [i for i in range(4) if any(row[i] for row in cells)]
        titles = ("name", "operator", "also called", "cost class")
        code = (True, True, True, False)
        table = _table(
            [titles[i] for i in used],
            [code[i] for i in used],
            [[row[i] for i in used] for row in cells],
        )
        return _section(title, _paragraph(f"{len(cells)} rows."), table)

    def _cells(self, row: Any) -> tuple[str, str, str, str]:
        operator = getattr(row, "operator", None)
        return (
            row.name,
            f"__{operator}__" if operator else "",
            ", ".join(getattr(row, "aliases", ())),
            row.cost,
        )


class EnvironmentTable(SphinxDirective):
    """The environment variables that the package reads, with what each sets."""

    def run(self) -> list[nodes.Node]:
        known = _attribute("_config", "ENVIRONMENT")
        if not known:
            return [_paragraph("This build of the documentation found no table of settings.")]
        return [_table(("variable", "sets"), (True, False), list(known.items()))]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("op-table", OpTable)
    app.add_directive("environment-table", EnvironmentTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
