"""A pytest plugin that writes down what became of each test, line by line, as it happens.

It runs in the process of the tests. A process that dies leaves the name of the test that it died
of. What it is told comes by environment variables: ``CONFORMANCE_RECORD``, the file to write;
``CONFORMANCE_DONE``, a file of tests not to be run again; ``CONFORMANCE_OPTIONS``, options of the
package under test, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Outcomes from the best to the worst; a test's is the worst of its parts.
_ORDER = ("passed", "xpassed", "xfailed", "skipped", "failed")
_seen: dict[str, tuple[str, str]] = {}


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    done = os.environ.get("CONFORMANCE_DONE")
    if done:
        names = set(Path(done).read_text("utf-8").splitlines())
        items[:] = [item for item in items if item.nodeid not in names]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    _write(test=item.nodeid, outcome="started")
    _seen.pop(item.nodeid, None)
    result = yield
    outcome, message = _seen.get(item.nodeid, ("failed", "it left no report"))
    _write(test=item.nodeid, outcome=outcome, message=message)
    return result  # type: ignore[return-value]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"  # type: ignore[assignment]
    known, message = _seen.get(report.nodeid, ("passed", ""))
    if _ORDER.index(outcome) >= _ORDER.index(known):
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
