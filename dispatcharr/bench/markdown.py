"""A run of the laboratory as a page of Markdown: where, what, the tables, how it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from dispatcharr.bench import __doc__ as policy
from dispatcharr.bench.load import is_disturbed
from dispatcharr.bench.ours import AUTO
from dispatcharr.bench.results import NUMPY, Cell, Report, in_size
from dispatcharr.explain.text import in_bytes, in_seconds

__all__ = ["faster", "page"]

_NOTHING = "-"


def page(report: Report, command: str, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page.

    Parameters
    ----------
    report : Report
        What was measured.
    command : str
        The command line that measured it.
    pictures : sequence of (str, str)
        Caption and path of each plot, as seen from the page.
    """
    parts = [
        "# Performance",
        f"Written by `{command}` on {report.date[:10]}, in {report.seconds / 60:.0f} minutes. "
        "Every figure is of one run on one machine; yours will differ, and the command above "
        "measures it.",
        "## Machine and versions",
        _table(("what", "is"), _surroundings(report), words=True),
        "## Against NumPy and its peers",
        f"Times faster than NumPy, {report.dtype}; `{AUTO}` is dispatcharr as it comes. The "
        f"fastest is bold, unless it is NumPy. The end tells of {_NOTHING} and of ~ after figures.",
        *_speed_ups(report),
        *[f"![{caption}]({path})" for caption, path in pictures],
        "## How near the roof",
        "Bandwidth as a share of what a loop reaches that only moves bytes, and took turns with "
        "the contenders: where machines share their memory, it gives more in one minute than in "
        "the next. (The loop is a triad, or a read beside what is reduced; "
        f"{report.roof.how}, {report.roof.threads} threads; the most that they moved here: "
        f"{_roofs(report)}.) What must move is counted: operands read once, the result written "
        "once.",
        _shares(report),
        "## Routing",
        f"Regret is the time of the automatic path over that of {report.regret_sentence}. "
        "`direct` is plain NumPy, for what is too small to be planned; its regret is over the best "
        "of all.",
        _routing(report),
        "Every backend and engine by force, times faster than NumPy:",
        *_forced(report),
        "## How it was measured",
        *_how(report),
        *_exceptions(report),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> str:
    """Return a table, of figures after the first column, or of words."""
    rule = ["---", *["---" if words else "---:"] * (len(header) - 1)]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(_cell(one) for one in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(title: str) -> str:
    """Return an expression as code: stars would be emphasis."""
    return f"`{title}`" if set(title) & set("()*+") else title


def faster(cell: Cell, name: str) -> str:
    """Return how many times faster than NumPy a contender is, or why there is no figure.

    It is marked with ``~`` where its answer is of another type.
    """
    if name in cell.wrong:
        return "wrong"
    ratio = cell.speed_up(name)
    if ratio is None:
        return _NOTHING
    digits = 0 if ratio >= 99.5 else 1 if ratio >= 9.95 else 2 if ratio >= 0.095 else 3
    return f"{ratio:.{digits}f}{'~' if name in cell.notes else ''}"


def _surroundings(report: Report) -> list[tuple[str, str]]:
    machine = report.machine
    caches = ", ".join(
        f"{name} {size >> 10:,} KiB" for name, size in machine["cache_bytes"].items()
    )
    others = "not known" if report.others is None else f"{report.others:.2f} cores"
    if is_disturbed(report.others):
        others += ", which is too much for figures to be relied on"
    sources = {"calibrated": "measured on this machine", "defaults": "the shipped defaults"}
    return [
        ("CPU", f"{machine['cpu']}, {machine['cpus_usable']} of {machine['cpus']} usable"),
        ("threads", f"{machine['threads']}"),
        ("caches", caches),
        ("system", machine["platform"]),
        ("profile", sources[machine["profile"]]),
        ("used by other processes meanwhile", others),
        ("versions", ", ".join(f"{name} {one}" for name, one in report.versions.items())),
    ]


def _speed_ups(report: Report) -> Iterable[str]:
    rest = [name for name in report.contenders if name != NUMPY]
    for size in reversed(report.sizes):
        rows = []
        for cell in report.at(size):
            fastest = cell.fastest(report.contenders)
            row = [_code(cell.title), in_seconds(cell.turns.typical(NUMPY))]
            for name in rest:
                figure = faster(cell, name)
                row.append(f"**{figure}**" if name == fastest else figure)
            rows.append(row)
        yield f"### {in_size(size)} elements"
        yield _table(("expression", NUMPY, *rest), rows)


def _roofs(report: Report) -> str:
    return ", ".join(
        f"{name} {in_bytes(rate)}/s" for name, rate in report.roof.bytes_per_second.items()
    )


def _shares(report: Report) -> str:
    size = report.sizes[-1]
    rows = []
    for cell in report.at(size):
        row = [_code(cell.title), f"{cell.intensity:.2g}"]
        for name in report.contenders:
            there = name in cell.turns.names
            row.append(f"{100 * report.roof_share(cell, name):.0f} %" if there else _NOTHING)
        rows.append(row)
    header = (f"expression, {in_size(size)} elements", "operations per byte", *report.contenders)
    return _table(header, rows)


def _routing(report: Report) -> str:
    """Return what was chosen and its regret, expressions by sizes."""
    titles = dict.fromkeys(cell.title for cell in report.cells)
    rows = []
    for title in titles:
        found = {cell.size: cell for cell in report.cells if cell.title == title}
        rows.append([_code(title), *[_choice(found.get(size)) for size in report.sizes]])
    return _table(("chosen, regret", *[in_size(size) for size in report.sizes]), rows)


def _choice(cell: Cell | None) -> str:
    if cell is None:
        return ""
    regret = cell.regret_over_all if cell.regret is None else cell.regret
    return cell.chosen if regret is None else f"{cell.chosen} {regret:.2f}"


def _forced(report: Report) -> Iterable[str]:
    size = report.sizes[-1]
    rows = [
        [_code(cell.title), *[faster(cell, name) for name in (AUTO, *report.forced)]]
        for cell in report.at(size)
    ]
    yield _table((f"{in_size(size)} elements", AUTO, *report.forced), rows)


def _how(report: Report) -> Iterable[str]:
    points = (policy or "").partition("once:")[2].strip()
    yield points
    rounds = median(len(cell.turns.rounds) for cell in report.cells)
    yield (
        f"A cell had {rounds:.0f} rounds in the median. Operations are counted nominally: one for "
        "each of `+ - * /`, comparison, selection and root, 16 for a function such as `exp`. "
        "Which of the forced ones is best is decided on one half of the rounds, and the ratio "
        "taken on the other half, both ways: else noise alone would look like regret."
    )
    firsts = {
        name: median([cell.first[name] for cell in report.cells if name in cell.first] or [0.0])
        for name in report.how
    }
    rows = [(name, how, in_seconds(firsts[name])) for name, how in report.how.items()]
    if rows:
        yield _table(("peer", "used as", "first run, median"), rows, words=True)


def _exceptions(report: Report) -> Iterable[str]:
    """Yield who was not here, who was wrong and who could not, each with the reason."""
    rows = [(name, "everything", reason) for name, reason in report.missing.items()]
    # Said once where it holds at every size.
    sizes: dict[tuple[str, str, str], list[int]] = {}
    for cell in report.cells:
        found = [(name, f"wrong: {how}") for name, how in cell.wrong.items()]
        found += cell.unable.items()
        found += [(name, f"~ {note}") for name, note in cell.notes.items()]
        for name, why in found:
            sizes.setdefault((name, _code(cell.title), why), []).append(cell.size)
    for (name, what, why), where in sizes.items():
        rows.append((name, f"{what}, {' '.join(in_size(size) for size in where)}", why))
    if rows:
        yield "## What is not in the tables"
        yield _table(("who", "what", "why"), rows, words=True)
