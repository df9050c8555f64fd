"""The tree speaks of the project alone, and every exception from a rule gives its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = (
    "*.md", "*.py", "*.toml", "Makefile", ".ci/*", ".pre-commit-config.yaml",
    "asv_benchmarks/*.json", "asv_benchmarks/benchmarks/*.py", "benchmarks/*", "changelog.d/*",
    "dispatcharr/**/*.py", "dispatcharr/**/*.pyi", "dispatcharr/**/*.c", "docs/**/*.md",
    "docs/**/*.py", "examples/*", "tests/**/*.py", "tools/*.py",
)  # fmt: skip
#: What belongs to where the project is worked on, and not into it.
FOREIGN = {
    "a path of one machine": r"(?<![\w.~-])/(?:root|work|workspace|home/(?!me/|somebody/))\w*/",
    "the number of an issue": r"(?<![\w&/])#\d+\b|\b(?:issue|ticket|PR) \d+",
    "an index of packages": r"index-url|localhost:\d|\.internal\b",
    "a name of somebody": r"[\w.]+@(?!users\.noreply)[\w-]+\.[a-z]{2,}\b",
    "a tool that wrote it": r"(?i)\b(?:claude|anthropic|chatgpt|copilot|language model)\b",
}
REASONED = re.compile(r"# noqa: [A-Z]+\d+(?:, [A-Z]+\d+)* - \w.+")


def files() -> list[Path]:
    found = {path for place in PLACES for path in ROOT.glob(place) if path.is_file()}
    return sorted(p for p in found if p != Path(__file__) and "_build" not in p.parts)


def lines() -> Iterator[tuple[str, str]]:
    for path in files():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield f"{path.relative_to(ROOT).as_posix()}:{number}", line


def foreign(line: str) -> set[str]:
    return {what for what, pattern in FOREIGN.items() if re.search(pattern, line)}


def test_nothing_speaks_of_where_it_was_written() -> None:
    found = [f"{where}: {what}" for where, line in lines() for what in foreign(line)]
    assert not found, "\n".join(found)


def test_every_noqa_gives_its_reason() -> None:
    found = [
        where
        for where, line in lines()
        if where.split(":")[0].endswith((".py", ".pyi"))
        and re.search(r"#\s*noqa", line)
        and not REASONED.search(line)
    ]
    assert not found, "say why, as in `# noqa: XYZ123 - reason`:\n" + "\n".join(found)


def test_foreign_words_are_found() -> None:
    text = {
        "cd /root/project": "a path of one machine",
        "see #123": "the number of an issue",
        "pip --index-url": "an index of packages",
        "somebody@example.org": "a name of somebody",
        "as Claude says": "a tool that wrote it",
    }
    assert {line: foreign(line) for line in text} == {line: {what} for line, what in text.items()}
    assert foreign("x = [#fff] # 1. item, 'color: #00ff00', @property, a@b") == set()


def test_the_scan_sees_the_whole_tree() -> None:
    seen = {path.relative_to(ROOT).as_posix() for path in files()}
    assert {"README.md", "dispatcharr/engine.py", "docs/design.md", ".ci/run"} <= seen
