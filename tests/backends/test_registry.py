"""Backends are found, listed, asked for by name, and chosen by what they say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.backends import registry
from dispatcharr.backends.base import Backend, Profile, Rates, host_rates
from dispatcharr.ops.reductions import REDUCTION_BY_NAME
from dispatcharr.ops.table import BY_NAME
from dispatcharr.plan.reference import run_reference
from dispatcharr.plan.region import Instruction, Layout, Reducing, Region

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "plugin"
ENTRY_POINTS = """\
[dispatcharr.backends]
abacus = abacus:make
abacus-broken = abacus.broken:BACKEND
abacus-absent = abacus:no_such_object
"""
TELL_ALL = """
import json
import numpy
import dispatcharr as np
from dispatcharr.backends import registry

x = np.linspace(0.0, 1.0, 50_000)
plain = numpy.linspace(0.0, 1.0, 50_000)
facts = {"available": dict(registry.available())}
facts["candidates"] = [backend.name for backend in registry.candidates()]

def told(record):
    last = record.records[-1].decision
    return {
        "backend": last.backend, "refused": dict(last.refused), "reason": last.reason,
        "priced": [estimate.backend for estimate in last.estimates],
    }

with np.dispatch_options(defer="always"):
    with np.record_dispatch() as record:
        y = np.evaluate(np.sqrt(x) * 2.0 + x)
    facts["elementwise"] = told(record)
    facts["right"] = bool(numpy.array_equal(numpy.asarray(y), numpy.sqrt(plain) * 2.0 + plain))
    facts["explained"] = str(np.explain(np.sqrt(x) * 2.0))
    with np.record_dispatch() as record:
        total = float((x * 2.0).sum())
    facts["reduction"] = told(record)
    facts["total"] = abs(total - 50_000.0) < 1e-6
    facts["explained reduction"] = str(np.explain(lambda: (x * 3.0).sum()))
    with np.use_backend("abacus"), np.record_dispatch() as record:
        (x * 4.0).sum()
    facts["forced reduction"] = told(record)
facts["ran"] = registry.backend("abacus").ran
for name in ("abacus-broken", "abaccus"):
    try:
        np.use_backend(name)
    except ValueError as error:
        facts[name] = str(error)
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process sees in which the plug-in is installed: its entry points on the path."""
    site = tmp_path_factory.mktemp("site")
    info = site / "abacus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    path = [str(site), str(PLUGIN), str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        # Where warnings of operations are errors, those that may warn do not wait.
        [sys.executable, "-W", "error", "-W", "default::RuntimeWarning", "-c", TELL_ALL],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_entry_point_adds_a_backend(plugged: dict[str, Any]) -> None:
    assert plugged["available"]["abacus"] is None
    assert {"abacus", "serial"} <= set(plugged["candidates"])


def test_the_plugin_is_chosen_where_it_is_cheapest(plugged: dict[str, Any]) -> None:
    told = plugged["elementwise"]
    assert told["backend"] == told["priced"][0] == "abacus"
    assert "serial" in told["priced"]
    assert "cheapest" in told["reason"]
    assert plugged["right"]
    assert "abacus" in plugged["explained"]
    assert plugged["ran"] == ["sqrt multiply add"]


def test_its_refusal_is_recorded_and_explained(plugged: dict[str, Any]) -> None:
    refusal = "an abacus has no rod to carry a reduction over"
    assert plugged["reduction"]["refused"] == {"abacus": refusal}
    assert plugged["reduction"]["backend"] != "abacus"
    assert plugged["total"]
    assert refusal in plugged["explained reduction"]


def test_a_forced_backend_that_refuses_is_passed_over_with_its_reason(
    plugged: dict[str, Any],
) -> None:
    told = plugged["forced reduction"]
    assert told["backend"] != "abacus"
    assert "'abacus' was asked for and refused (an abacus has no rod" in told["reason"]


def test_a_broken_plugin_is_listed_with_its_error(plugged: dict[str, Any]) -> None:
    listed = plugged["available"]
    assert "ImportError: libabacus.so: cannot open" in listed["abacus-broken"]
    assert "AttributeError" in listed["abacus-absent"]
    assert "no_such_object" in listed["abacus-absent"]
    assert not {"abacus-broken", "abacus-absent"} & set(plugged["candidates"])


def test_asking_for_a_broken_plugin_says_what_is_wrong_with_it(plugged: dict[str, Any]) -> None:
    message = plugged["abacus-broken"]
    assert message.startswith("backend 'abacus-broken' cannot be used: its package failed to load")
    assert "'auto', 'abacus'" in message


def test_an_unknown_name_lists_the_plugins_too(plugged: dict[str, Any]) -> None:
    message = plugged["abaccus"]
    assert "backend 'abaccus' cannot be used: it is unknown" in message
    assert "'abacus'" in message
    assert "'abacus-absent' is not: its package failed to load: AttributeError" in message


class Bench:
    """A backend whose every answer a test may set."""

    place = "host"

    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name = name
        self.reason = reason
        self.failure: Exception | None = None
        self.runs = 0

    def available(self) -> str | None:
        return self.reason

    def supports(self, region: Region) -> str | None:
        return None

    def rates(self, profile: Profile) -> Rates:
        return host_rates(profile, "serial")

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        self.runs += 1
        if self.failure is not None:
            raise self.failure
        for layout, result, output in zip(
            region.output_layouts, run_reference(region, inputs), outputs, strict=True
        ):
            numpy.copyto(layout.view(output), result)
        return frozenset()


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test add backends that no other test sees."""
    monkeypatch.setattr(registry, "_found", dict(registry._backends()))
    monkeypatch.setattr(registry, "_candidates", None)


def test_own_backends_are_found_by_their_files() -> None:
    files = {path.stem for path in (ROOT / "dispatcharr" / "backends").glob("[!_]*.py")}
    others = {"base", "cuda_library", "host", "late", "library", "placed", "registry"}
    assert files - others <= set(registry.available())
    assert all(isinstance(one, Backend) for one in registry._backends().values())


def test_serial_can_always_be_used() -> None:
    assert registry.available()["serial"] is None
    assert registry.backend("serial").name == "serial"


@pytest.mark.parametrize("ask", [np.use_backend, np.set_backend, registry.backend])
def test_an_unknown_backend_is_an_error_that_lists_the_known(ask: Callable[[str], Any]) -> None:
    with pytest.raises(np.BackendUnavailableError) as raised:
        ask("cyda")
    message = str(raised.value)
    assert isinstance(raised.value, ValueError)
    assert "'cyda' cannot be used: it is unknown" in message
    for name, reason in registry.available().items():
        assert f"{name!r}" in message
        assert reason is None or f"{name!r} is not: {reason}" in message


@pytest.mark.usefixtures("own_registry")
def test_an_unavailable_backend_is_an_error_with_its_reason() -> None:
    registry.register(Bench("lapsed", "its licence has run out"))
    with pytest.raises(np.BackendUnavailableError, match=r"'lapsed' .*: its licence has run out"):
        np.use_backend("lapsed")
    assert "lapsed" not in [one.name for one in registry.candidates()]


@pytest.mark.usefixtures("own_registry")
def test_a_registered_backend_runs_what_it_is_asked_for() -> None:
    bench = Bench("bench")
    registry.register(bench)
    assert bench in registry.candidates()
    with np.use_backend("bench"), np.dispatch_options(defer="always"):
        result = numpy.asarray(np.evaluate(np.arange(6.0) * 2 + 1))
    assert bench.runs == 1
    assert result.tolist() == [1, 3, 5, 7, 9, 11]


@pytest.mark.usefixtures("own_registry")
def test_what_a_backend_fails_to_run_runs_elsewhere_and_the_record_says_so() -> None:
    bench = Bench("failing")
    bench.failure = MemoryError("out of beads")
    registry.register(bench)
    with np.dispatch_options(defer="always"):
        x = np.arange(6.0)
        y = x * 2 + 1
        with np.use_backend("failing"):
            np.evaluate(y)
        assert numpy.asarray(x).tolist() == [0, 1, 2, 3, 4, 5]
        assert numpy.asarray(y).tolist() == [1, 3, 5, 7, 9, 11]
    told = str(np.explain(y))
    assert "MemoryError: out of beads" in told


@pytest.mark.usefixtures("own_registry")
def test_an_error_that_no_backend_escapes_is_the_users_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: object) -> None:
        raise MemoryError("nowhere")

    with np.dispatch_options(defer="always"):
        x = np.arange(6.0)
        y = x * 2 + 1
        with monkeypatch.context() as patched:
            for one in registry.candidates():
                patched.setattr(type(one), "run", broken)
            with pytest.raises(MemoryError, match="nowhere"):
                np.evaluate(y)
        assert numpy.asarray(x).tolist() == [0, 1, 2, 3, 4, 5]
        assert numpy.asarray(y).tolist() == [1, 3, 5, 7, 9, 11]


def test_half_a_backend_cannot_be_registered() -> None:
    class Half:
        name = "half"
        place = "host"

        def available(self) -> None: ...

    with pytest.raises(TypeError, match="got Half without supports, rates, run"):
        registry.register(Half())  # type: ignore[arg-type]
    assert "half" not in registry.available()


def test_null_is_not_routed_to_unless_asked() -> None:
    assert registry.available()["null"] is None
    assert "null" not in [one.name for one in registry.candidates()]


def test_null_plans_and_prices_without_computing() -> None:
    x = np.linspace(1.0, 2.0, 1000)
    null: Any = registry.backend("null")
    with (
        np.use_backend("null"),
        np.dispatch_options(defer="always"),
        np.record_dispatch() as record,
    ):
        result = np.evaluate(np.exp(x) + x)
    assert not numpy.asarray(result).any()
    assert null.regions[-1].describe() == "exp add"
    decision = record.records[-1].decision
    assert decision.backend == "null"
    assert {"null", "serial"} <= {estimate.backend for estimate in decision.estimates}


DOUBLE = numpy.dtype("d")


def flat(count: int) -> Layout:
    return Layout(DOUBLE, None, (count,), True)


def instruction(name: str, *operands: int, result: int) -> Instruction:
    return Instruction(BY_NAME[name], operands, (result,), (DOUBLE,))


def summed(register: int, count: int, state: Any = None) -> Reducing:
    row = REDUCTION_BY_NAME["sum"]
    return Reducing(row, register, (0,), count, state, DOUBLE, (1,), ())


N = 100_003
CONSTANT = Layout(DOUBLE, None, (), False)
REGIONS = {
    "elementwise": Region(
        (N,),
        (flat(N), flat(N)),
        (instruction("multiply", 0, 1, result=2), instruction("sin", 2, result=3)),
        (3,),
        (flat(N),),
        None,
        "asked",
    ),
    "two outputs and a constant": Region(
        (N,),
        (flat(N), CONSTANT),
        (instruction("add", 0, 1, result=2), instruction("sqrt", 2, result=3)),
        (2, 3),
        (flat(N), flat(N)),
        None,
        "asked",
    ),
    "reduction of something computed": Region(
        (N,),
        (flat(N), flat(N)),
        (instruction("subtract", 0, 1, result=2),),
        (),
        (),
        summed(2, N),
        "reduction",
    ),
    "a broadcast row": Region(
        (301, 333),
        (Layout(DOUBLE, None, (301, 333), True), Layout(DOUBLE, None, (1, 333), False)),
        (instruction("multiply", 0, 1, result=2),),
        (2,),
        (Layout(DOUBLE, None, (301, 333), True),),
        None,
        "asked",
    ),
}


def memory_of(region: Region) -> tuple[list[numpy.ndarray], list[numpy.ndarray]]:
    generator = numpy.random.default_rng(20)
    inputs = [generator.random(layout.shape) for layout in region.inputs]
    outputs = [numpy.full(layout.shape, numpy.nan) for layout in region.output_layouts]
    if region.reducing is not None:
        outputs.append(numpy.full(region.reducing.shape, numpy.nan))
    return inputs, outputs


@pytest.mark.parametrize("name", REGIONS)
def test_one_thread_and_many_give_the_same_bits(name: str) -> None:
    region = REGIONS[name]
    inputs, alone = memory_of(region)
    together = [output.copy() for output in alone]
    untouched = [one.copy() for one in inputs]
    serial, threads = (registry._backends()[crew] for crew in ("serial", "threads"))
    assert serial.run(region, inputs, alone) == frozenset()
    for most in (None, 1, 2):
        assert threads.run(region, inputs, together, most) == frozenset()
        for mine, theirs in zip(alone, together, strict=True):
            assert mine.tobytes() == theirs.tobytes()
    for given, kept in zip(inputs, untouched, strict=True):
        assert (given == kept).all()
    for got, wanted in zip(alone, run_reference(region, inputs), strict=True):
        numpy.testing.assert_allclose(got, wanted, rtol=1e-12)


@pytest.mark.parametrize("crew", ["serial", "threads"])
def test_floating_point_errors_are_told_with_the_operation(crew: str) -> None:
    region = Region(
        (4,), (flat(4),), (instruction("log", 0, result=1),), (1,), (flat(4),), None, "asked"
    )
    output = numpy.empty(4)
    errors = registry._backends()[crew].run(region, [numpy.array([1.0, 0.0, -1.0, 2.0])], [output])
    assert errors == {("divide by zero", "log"), ("invalid value", "log")}
    assert output[1] == -numpy.inf
