"""Whole programs that hypothesis writes: what it finds it makes as small as it can.

Its steps are the statements of the fuzzer, with every choice made by hypothesis.
"""

from __future__ import annotations

import random
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from lockstep import Undecided
from parts import OPTIONS
from writer import Writer

pytestmark = pytest.mark.usefixtures("listening")
_CHOICES = st.randoms(use_true_random=False)


def _statement(*kinds: str) -> Any:
    """Return a rule that executes a statement of one of these kinds."""

    @precondition(lambda self: self.is_decided)
    @rule(choices=_CHOICES)
    def step(self: Any, choices: random.Random) -> None:
        self.execute(choices, choices.choice(kinds))

    return step


class Programs(RuleBasedStateMachine):
    """A program in the making, with NumPy and with dispatcharr."""

    writer: Writer | None = None
    is_decided = True

    @initialize(seed=st.integers(0, 99), options=st.sampled_from(OPTIONS), heard=st.booleans())
    def begin(self, seed: int, options: dict[str, Any], heard: bool) -> None:
        self.writer = Writer(seed, (options,), heard)
        for choices in (random.Random(seed), random.Random(seed + 1)):
            self.execute(choices, "create")

    def execute(self, choices: random.Random, kind: str) -> None:
        writer = self.writer
        if writer is None or (kind != "create" and not writer.arrays()):
            return
        writer.random = choices
        with numpy.errstate(all="ignore"):
            statements = [getattr(writer, kind)()]
            while writer.queue:
                statements.append(writer.queue.pop(0))
        for statement in statements:
            made = statement() if callable(statement) else statement
            if made is None:
                continue
            writer.program.statements.append(made)
            try:
                if made.rule == "look":
                    writer.both.look(made.names[0])
                else:
                    writer.both.step(made)
            except Undecided:
                self.is_decided = False
                return

    def teardown(self) -> None:
        if self.writer is not None:
            try:
                if self.is_decided:
                    self.writer.both.finish()
            finally:
                self.writer.both.close()

    create = _statement("create", "generate")
    bind = _statement("operate", "call_row", "move", "same", "scan", "method", "call_how")
    slice = _statement("view")
    write = _statement("update", "assign", "write_to", "call_pair", "fold_into")
    reduce = _statement("fold", "sum")
    repeat = _statement("repeat", "each", "again", "several", "several_sums")
    export = _statement("export", "lend", "borrow")
    write_outside = _statement("write_there")
    drop = _statement("drop")
    look = _statement("look")
    change_errstate = _statement("set_modes")
    change_options = _statement("set_options")
    use_threads = _statement("run_threads", "share")


_QUICK = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,  # the slow test tries other programs every time
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
_LONG = settings(_QUICK, max_examples=1500, stateful_step_count=60, derandomize=False)


def run(chosen: Any) -> None:
    case = Programs.TestCase()
    case.settings = chosen
    case.runTest()


def test_programs() -> None:
    run(_QUICK)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_programs() -> None:
    run(_LONG)
