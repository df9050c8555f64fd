"""What the tests of reports share: kernels made by hand, and records with known figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy
import pytest

from dispatcharr import _events, engine
from dispatcharr._events import KernelRecord
from dispatcharr.expr.build import build
from dispatcharr.expr.nodes import Node
from dispatcharr.ops.table import BY_NAME
from dispatcharr.plan.fuse import Step

MILLISECOND = 1e-3


def _op(name: str, *values: Any, dtype: Any = None) -> Node:
    return build(BY_NAME[name], values, None if dtype is None else numpy.dtype(dtype))


@pytest.fixture
def op() -> Callable[..., Node]:
    """Make the node of an operation: ``op("add", a, 1.0)``."""
    return _op


@pytest.fixture
def chain() -> Callable[[int], Node]:
    """Make a program of that many operations, each of which reads the one before."""

    def made(length: int, elements: int = 20_000) -> Node:
        value: Any = numpy.full(elements, 0.5)
        for i in range(length):
            name = ("logaddexp2", "sqrt", "copysign", "hypot")[i % 4]
            value = _op(name, value) if name == "sqrt" else _op(name, value, 1.0)
        return value

    return made


@pytest.fixture
def step() -> Callable[[Node], Step]:
    """Plan a node that makes one kernel."""

    def made(node: Node) -> Step:
        (only,) = engine.plan_of([node]).steps
        return only

    return made


@pytest.fixture
def record(step: Callable[[Node], Step]) -> Callable[..., KernelRecord]:
    """Make a record of a node as though it had run, with the prices and times that are given."""

    def made(
        node: Node,
        prices: dict[str, float] | None = None,
        seconds: float = 3 * MILLISECOND,
        refused: tuple[tuple[str, str], ...] = (),
        forced: str | None = None,
        **more: Any,
    ) -> KernelRecord:
        one = step(node)
        prices = prices or {"threads": 2 * MILLISECOND, "serial": 4 * MILLISECOND}
        decision = engine.route(one.region, one.work)
        shape = decision.estimate
        estimates = tuple(
            replace(shape, backend=name, seconds=price, run=price)
            for name, price in sorted(prices.items(), key=lambda item: item[1])
        )
        decision = replace(
            decision,
            backend=forced if forced in prices else estimates[0].backend,
            estimates=estimates,
            refused=refused,
            forced=forced,
            measured=seconds,
        )
        return KernelRecord(one.region, one.work, decision, seconds, **more)

    return made


@pytest.fixture
def ran() -> Callable[..., list[Any]]:
    """Run nodes and return what was told of it."""

    def evaluated(*nodes: Node) -> list[Any]:
        heard: list[Any] = []
        with _events.listening(heard.append):
            engine.evaluate(nodes)
        return heard

    return evaluated


@pytest.fixture
def fits() -> Callable[[object], str]:
    """Check that a report prints as plain text within 80 columns, and return the text."""

    def checked(report: object) -> str:
        text = str(report)
        assert text.isascii()
        assert text.strip()
        assert "\x1b" not in text
        widest = max(text.splitlines(), key=len)
        assert len(widest) <= 80, widest
        assert all(line == line.rstrip() for line in text.splitlines())
        return text

    return checked


class _Balance(HTMLParser):
    """Collects the text of a fragment and checks that its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def html_text() -> Callable[[object], str]:
    """Check the HTML of a report and return the text in it."""

    def checked(report: Any) -> str:
        parser = _Balance()
        parser.feed(report._repr_html_())
        assert parser.open == []
        return " ".join(parser.words)

    return checked
