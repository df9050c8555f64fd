"""A pytest plugin that writes down what became of each test, line by line, as it happens.

It runs in the process of the tests. A process that dies leaves the name of the test that it died
of. What it is told comes by environment variables: ``CONFORMANCE_RECORD``, the file to write;
``CONFORMANCE_DONE``, a file of tests not to be run again; ``CONFORMANCE_OPTIONS``, options of the
package under test, as JSON.

pytest runs each test inside ``warnings.catch_warnings``, where next to nothing would wait. So the
filters that a test finds count as the program's own, as they are for users; blocks that the test
itself enters count as such. Planned operations are counted, and those of them that waited.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

#: Outcomes from the best to the worst; a test's is the worst of its parts.
_ORDER = ("passed", "xpassed", "xfailed", "skipped", "failed")
_seen: dict[str, tuple[str, str]] = {}
#: Elementwise operations that were planned since the last line was written, and that waited.
_counts = {"planned": 0, "waited": 0}
_as_a_program: Callable[[], AbstractContextManager[None]] = nullcontext


def _write(**line: Any) -> None:
    with open(os.environ["CONFORMANCE_RECORD"], "a", encoding="utf-8") as record:
        record.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    options = json.loads(os.environ.get("CONFORMANCE_OPTIONS", "null"))
    if options is None:
        return
    import dispatcharr
    from dispatcharr import _config
    from dispatcharr.face.context import follow_process_options

    # For the process: tests start threads, which do not inherit the options of a context.
    _config.set_process(options, "conformance")
    follow_process_options()
    assert dispatcharr.sum is not None
    _prepare()


def _prepare() -> None:
    """Have filters count as they do for programs, and operations counted."""
    global _as_a_program
    from dispatcharr.expr.build import own_filters
    from dispatcharr.face import creation, elementwise, operators, waiting

    may_wait = waiting.may_wait

    def counted(*given: Any) -> bool:
        waits = may_wait(*given)
        _counts["planned"] += 1
        _counts["waited"] += waits
        return waits

    for module in (waiting, elementwise, operators, creation):
        module.may_wait = counted  # type: ignore[attr-defined]
    _as_a_program = own_filters


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    done = os.environ.get("CONFORMANCE_DONE")
    if done:
        names = set(Path(done).read_text("utf-8").splitlines())
        items[:] = [item for item in items if item.nodeid not in names]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    _write(test=item.nodeid, outcome="started")
    _seen.pop(item.nodeid, None)
    _counts.update(planned=0, waited=0)
    with _as_a_program():
        result = yield
    outcome, message = _seen.get(item.nodeid, ("failed", "it left no report"))
    _write(test=item.nodeid, outcome=outcome, message=message, **_counts)
    return result  # type: ignore[return-value]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"  # type: ignore[assignment]
    known, message = _seen.get(report.nodeid, ("passed", ""))
    # Of parts that are as bad the first speaks: what fails after it may be its consequence.
    if _ORDER.index(outcome) > _ORDER.index(known):
        known, message = outcome, _message(report) or message
    _seen[report.nodeid] = known, message


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write(test=report.nodeid, outcome="not collected", message=str(report.longrepr)[-500:])


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return "" if report.passed else str(report.longrepr)[-300:]
    return f"{crash.message[:300]} ({Path(crash.path).name}:{crash.lineno})"
