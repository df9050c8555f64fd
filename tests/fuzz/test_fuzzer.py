"""The fuzzer finds what is wrong, makes it small, and writes a script that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
import fuzz
import unsure
from closeness import UNKNOWN, compare, compare_sums, level_after
from dispatcharr import engine, replay
from dispatcharr.expr import build
from dispatcharr.face import tape
from dispatcharr.ops import row, table
from dispatcharr.route import scans
from dispatcharr.storage import exports
from lockstep import Mismatch, run
from shrinking import save, script, shrink
from statements import Program, Statement, load, parse
from templates import FOLDS, ROWS
from writer import Writer

pytestmark = pytest.mark.usefixtures("listening")
ALWAYS = ({"defer": "always"},)


def find(most: int, options: Any = ALWAYS) -> tuple[Program, Mismatch]:
    """Return the first program that differs, of so many."""
    for seed in range(most):
        program, found = fuzz.play(seed, options)
        if found is not None:
            return program, found
    pytest.fail(f"{most} programs differ in nothing")


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    statements = 0
    for seed in range(40):
        program, found = fuzz.play(seed)
        assert found is None, f"{found}\n{program}"
        statements += len(program.statements)
    assert statements > 800


def test_a_wrong_function_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "maximum", np.minimum)
    program, found = find(300)
    small = shrink(program, found)
    assert found.kind == "value"
    assert len(small.statements) <= 4
    assert any("maximum" in s.text for s in small.statements)
    told = run(small)
    assert told is not None and told.kind == "value"


def test_a_row_that_is_wrong_in_a_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = row.Elementwise(
        "where", None, "select", 3, errors="none", result=table.BY_NAME["where"].result,
        fill=lambda operands, out: numpy.copyto(out, operands[1], casting="unsafe"),
    )  # fmt: skip
    monkeypatch.setitem(table.BY_NAME, "where", wrong)
    assert find(300)[1].kind in ("value", "verification")


def test_a_write_that_does_not_wait_for_readers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SNAPSHOT_BYTES", 0)
    monkeypatch.setattr(engine, "before_write", lambda host: None)
    assert find(300)[1].kind in ("value", "warnings", "error")


def test_memory_that_others_see_and_is_not_watched_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dispatcharr.face import waiting

    monkeypatch.setattr(build, "SNAPSHOT_BYTES", 0)
    monkeypatch.setattr(waiting, "is_visible", lambda host: False)
    assert exports.is_visible is not waiting.is_visible
    assert find(600)[1].kind == "value"


def test_a_copy_in_the_place_of_a_view_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "asarray", np.array)
    monkeypatch.setattr(np, "moveaxis", lambda a, *axes: numpy.moveaxis(a, *axes).copy())
    assert find(300)[1].kind in ("owns", "memory", "value", "strides")


def test_lost_warnings_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "warn", lambda kinds, errors: None)
    found = find(300, ({"defer": "never", "backend": "serial"},))[1]
    assert found.kind == "warnings"


@pytest.mark.parametrize(
    ("line", "is_open"),
    [
        ("s1 = [told(x * v2) for x in (v2, v3)]  #: same", True),  # complex products, out of sight
        ("s1 = [told(x + v2) for x in (v2, v3) * 2]  #: same", False),
        ("v1 = v2 * v3  #: product", False),  # in sight: its rule knows how far they may be off
        ("v1 = m.arange(3) * 2  #: same", False),
    ],
)
def test_what_numpy_answers_in_several_ways_is_not_compared(line: str, is_open: bool) -> None:
    read = [numpy.ones(3, "F")]
    assert unsure.is_unsettled(parse(line), read, []) == is_open


def test_casts_are_open_only_of_what_is_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsure, "_unsettled_dtypes", lambda: frozenset("I"))
    cast, target = parse("v1[...] = v2  #: same v1"), [numpy.zeros(3, "I")]
    for value, is_open in ((2.5, False), (-0.5, False), (numpy.nan, True), (1e10, True)):
        assert unsure.is_unsettled(cast, [numpy.full(3, value)], target) == is_open
    assert not unsure.is_unsettled(cast, [numpy.full(3, 1e30)], [numpy.zeros(3, "q")])


def program(*lines: str, low: bool = False, **options: Any) -> Program:
    return Program(options, False, [*map(parse, lines)], low=low)


def test_plans_that_are_run_on_other_arrays_than_asked_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = program(
        "v1 = m.array(given('d', (8192,), 2))  #: same",
        "v2 = m.array(given('d', (8192,), 3))  #: same",
        "s1 = [told((x * 2 - v2) * x) for x in (v1, v2, v1, v1.copy(), v2)]  #: same",
        low=True,
    )
    assert run(loop) is None
    planned = replay.Replay.run

    def swapped(self: Any, hosts: list[Any], *more: Any) -> Any:
        turned = [host for host in reversed(hosts) if host.ndim]
        return planned(self, [turned.pop(0) if h.ndim else h for h in hosts], *more)

    monkeypatch.setattr(replay.Replay, "run", swapped)
    monkeypatch.setattr(tape, "_known", {})
    monkeypatch.setattr(tape, "_reductions", {})
    told = run(loop)
    assert told is not None and told.kind == "value"


@pytest.mark.parametrize("call", ["m.cumsum(v1)", "v1[v1 > 0]", "m.unique(v1.astype('i8'))"])
def test_scans_that_are_wrong_are_found(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = program(
        "v1 = m.array(given('d', (1024,), 2))  #: same", f"v3 = {call}  #: same",
        engine="compiled", on_fallback="log",
    )  # fmt: skip
    assert run(made) is None
    choose = scans.choose

    def wrongly(scan: Any, options: Any) -> Any:
        compute = scan.run
        scan.run = lambda crew: compute(crew)[::-1].copy()
        return choose(scan, options)

    monkeypatch.setattr(scans, "choose", wrongly)
    told = run(made)
    assert told is not None and told.kind == "value"


def test_every_row_is_written() -> None:
    """New rows of the tables join by themselves."""
    writer = Writer(1)
    for char in "?ld":
        writer.both.step(Statement(f"v{ord(char)} = m.array(given({char!r}, (9,), 0))"))
    made = [make() for make in (writer.call_row, writer.fold) for _ in range(2500)]
    text = "\n".join(map(str, made))
    names = {name: (name, *_aliases(name)) for name in (r.name for r in (*ROWS, *FOLDS))}
    assert [n for n, all_ in names.items() if not any(f".{a}(" in text for a in all_)] == []
    writer.both.close()


def _aliases(name: str) -> tuple[str, ...]:
    return tuple(alias for r in ROWS if r.name == name for alias in r.aliases)


def test_programs_are_saved_and_read(tmp_path: Path) -> None:
    program, _ = fuzz.play(3)
    again = load(save(program, tmp_path))
    assert (again.options, again.heard) == (program.options, program.heard)
    assert [*map(str, again.statements)] == [*map(str, program.statements)]


def test_a_program_of_a_seed_is_always_the_same() -> None:
    assert str(fuzz.play(11)[0]) == str(fuzz.play(11)[0])


def test_statements_say_what_they_bind_and_read() -> None:
    made = parse("with m.errstate(all='raise'): v3, v4 = m.divmod(v1, v3)  #: same v1 / abs(v1)")
    assert made.targets == ("v3", "v4")
    assert made.reads == ("v1", "v3")
    assert (made.rule, made.writes, made.scale) == ("same", ("v1",), "abs(v1)")
    with pytest.raises(ValueError, match="not a statement"):
        parse("v1 = 3")


def test_a_script_runs_without_the_fuzzer(tmp_path: Path) -> None:
    program = Program({"defer": "always"}, False, [
        Statement("v0 = m.array(given('d', (5,), 1))"),
        Statement("choose(fusion=False)"),
        Statement("v1 = v0 + 1"),
    ])  # fmt: skip
    path = tmp_path / "script.py"
    path.write_text(script(program), "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    made = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, env=environment
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("'v1': array(") == 2


def test_values_are_compared_as_promised() -> None:
    one, next_one = numpy.array([1.0, numpy.nan]), numpy.array([1.0 + 2**-52, numpy.nan])
    assert compare(one, one, 0) is None
    assert "1 of 2" in (compare(next_one, one, 0) or "")
    assert compare(next_one, one, 1) is None
    assert compare(numpy.array([-0.0]), numpy.array([0.0]), 0)
    assert compare(numpy.array([5]), numpy.array([6]), UNKNOWN) is None
    assert compare_sums(numpy.array(1e9 + 1), numpy.array(1e9), 1e9, 100)
    assert compare_sums(numpy.array(1.0), numpy.array(0.0), 1e17, 100) is None


def test_errors_travel_from_operands_to_results() -> None:
    value = numpy.array([1.5])
    assert level_after("same", [0], value) == 0
    assert level_after("same", [8], value) == UNKNOWN
    assert level_after("near", [0], value) == level_after("move", [8], value) == 8
    assert level_after("product", [8, 2], value) == 11
    assert level_after("product", [8, 2], numpy.array([1e-310])) == UNKNOWN
    assert level_after("size", [0], value) == UNKNOWN
    assert level_after("size", [0], numpy.array([3])) == 0
    assert level_after("zeros", [0], numpy.array([0.0])) == 1


def test_what_is_written_is_small_though_three_arrays_meet() -> None:
    writer = Writer(1, ({},))
    for text in ("v0 = m.ones((1, 1))", "v1 = m.ones((50000, 1))", "v2 = m.ones(50000)"):
        writer.both.step(Statement(text))
    for name in ("v0", "v1", "v2") * 100:
        writer.mated.clear()
        text, _rule = writer.expression(name)
        assert not {"v1", "v2"} <= {*Statement(text).names}
    writer.both.close()
