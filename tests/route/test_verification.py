"""A kernel that disagrees with NumPy is told of, kept on disk, and not asked for again."""

from __future__ import annotations

import os
import random
import re
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.backends import registry
from dispatcharr.expr.build import own_filters
from dispatcharr.plan import reference, reproducer
from dispatcharr.plan.fuse import plan
from dispatcharr.plan.graph import survey
from dispatcharr.route import standing, verification

Program = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep what is found, and what is in quarantine, to one test."""
    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(standing, "_quarantined", set())
    yield tmp_path / "disagreements"
    standing._barred.clear()
    standing._standing.clear()


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the serial backend, with one engine or any, change what it computed."""
    kind = type(registry.backend("serial"))
    run = kind.run

    def use(change: Any, engine: str | None = None) -> None:
        def wrongly(self: Any, region: Any, inputs: Any, outputs: Any, threads: Any) -> Any:
            errors = run(self, region, inputs, outputs, threads)
            if self.name == "serial" and engine in (None, self.engine):
                change(outputs[-1])
            return errors

        monkeypatch.setattr(kind, "run", wrongly)

    return use


def add_one(output: Any) -> None:
    output += numpy.array(1).astype(output.dtype)


def turn_over(output: Any) -> None:
    numpy.logical_not(output, out=output)


def checked(program: Program, **options: Any) -> tuple[numpy.ndarray, list[str]]:
    """Run a program whose kernels are all checked; return the result and what was warned of."""
    asked = {"verify": 1.0, "defer": "always", "backend": "serial", **options}
    with warnings.catch_warnings(record=True) as heard, np.dispatch_options(**asked):
        warnings.simplefilter("always")
        with own_filters():
            result = numpy.array(program(np))
    assert {w.category for w in heard} <= {np.VerificationWarning}
    assert all(w.filename == __file__ for w in heard)
    return result, [str(w.message) for w in heard]


def updated(m: Any) -> Any:
    a = m.arange(3000.0)
    a += a
    return m.add(a, 1, out=a)


PROGRAMS: dict[str, Program] = {
    "fused": lambda m: m.sin(m.arange(3000.0).reshape(30, 100)[::2, ::-1]) * 2 + m.arange(100.0),
    "sum": lambda m: (m.arange(3000, dtype="f4").reshape(30, 100) * 3).sum(axis=0),
    "of everything": lambda m: (m.arange(3000) * 3).max(),
    "with a mask": lambda m: m.sum(m.arange(300.0) * 2, where=m.arange(300) % 2 == 0, initial=5),
    "cast": lambda m: m.where(m.arange(20) > 3, m.arange(20.0), 7).astype("f4"),
    "cast within": lambda m: m.add(m.ones(40), 1, out=m.zeros(40, "f4")),
    "in place": updated,
    "bools": lambda m: (m.arange(3000.0) * 2 > 5) & (m.arange(3000) < 7),
    "variance": lambda m: m.var(m.arange(300.0) % 7, ddof=1),
    "places": lambda m: m.argmax(m.arange(300) % 7 * 2),
    "transposed": lambda m: m.sqrt(m.arange(600.0).reshape(20, 30).T) - m.arange(30.0)[:, None],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_numpys_answer_stands_and_a_script_is_kept(name: str, wrong: Any, folder: Path) -> None:
    program = PROGRAMS[name]
    wrong(turn_over if name == "bools" else add_one)
    result, warned = checked(program)
    numpy.testing.assert_allclose(result, numpy.array(program(numpy)), rtol=1e-12)
    assert warned
    scripts = [re.search(r"(\S+\.py) shows it", text) for text in warned]
    assert all(found and Path(found[1]).parent == folder for found in scripts)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = scripts[-1]
    assert found is not None
    made = subprocess.run(
        [sys.executable, "-W", "error", found[1]],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    # In a process of its own the backend is right.
    assert re.search(r"result \d: 0 of \d+ elements differ now", made.stdout), made.stdout
    assert "when it was met: [" in made.stdout


def test_who_was_wrong_is_not_asked_again(wrong: Any) -> None:
    wrong(add_one, "blocks")  # of the other there may be a kernel by now, which is asked then
    array = np.arange(3000.0)
    assert len(checked(lambda m: array * 2, engine="blocks")[1]) == 1
    with np.dispatch_options(verify=0.0), np.use_backend("serial"), np.record_dispatch() as record:
        numpy.testing.assert_array_equal(array * 2, numpy.arange(3000.0) * 2)
    (kernel,) = record.records
    assert kernel.decision.estimate.label != "serial/blocks"
    assert "disagreed with NumPy" in str(kernel.decision)


def test_quarantine_outlives_the_plan(wrong: Any) -> None:
    """Another size is another region, which the same kernel would serve."""
    wrong(add_one, "blocks")  # of the other there may be a kernel by now, which is asked then
    assert checked(lambda m: m.arange(3000.0) * 7 - 1.5, engine="blocks")[1]
    assert not checked(lambda m: m.arange(4000.0) * 7 - 1.5, engine="blocks")[1]


def test_the_files_are_private_and_few(
    wrong: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(add_one)
    monkeypatch.setattr(reproducer, "_MOST_FILES", 2)
    for factor in range(4):
        monkeypatch.setattr(standing, "_quarantined", set())
        standing._barred.clear()
        checked(lambda m, f=factor: m.ones(40) * f)
    kept = sorted(folder.iterdir())
    assert sorted(path.suffix for path in kept) == [".npz", ".npz", ".py", ".py"]
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


def test_of_large_arrays_a_part_is_kept(
    wrong: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproducer, "_MOST_BYTES", 8000)
    wrong(lambda output: output.reshape(-1).__setitem__(slice(40_000, 40_003), -1))
    values = numpy.random.default_rng(3).random(50_000)
    array = np.array(values)
    result, (text,) = checked(lambda m: array * array)
    numpy.testing.assert_array_equal(result, values * values)
    assert "3 of 50000 elements" in text
    (data,) = folder.glob("*.npz")
    assert data.stat().st_size < 16_000
    with numpy.load(data) as held:
        assert values[40_000] in held["x0"]
        assert held["got"].tolist() == [-1, -1, -1]


def test_nothing_is_kept_of_sums_that_are_too_large(
    wrong: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproducer, "_MOST_BYTES", 8000)
    wrong(add_one)
    _, (text,) = checked(lambda m: (m.ones(50_000) * 3).sum())
    assert "too large" in text
    assert not folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of folders are those of POSIX")
def test_a_folder_that_cannot_be_written(
    wrong: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproducer, "cache_folder", lambda: os.path.join(os.devnull, "x"))
    wrong(add_one)
    _, (text,) = checked(lambda m: m.ones(40) * 3)
    found = re.search(r"(\S+)[\\/]kernel-\S+\.py shows it", text)
    assert found is not None
    made = Path(found[1])
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for path in made.iterdir():
        path.unlink()
    made.rmdir()


def test_no_script_without_a_disk(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise OSError("no space is left")

    monkeypatch.setattr(reproducer, "_folder", full)
    wrong(add_one)
    result, (text,) = checked(lambda m: m.ones(40) * 3)
    assert "No script could be written: no space is left." in text
    assert result.tolist() == [3.0] * 40


def test_the_programs_random_numbers_are_its_own() -> None:
    random.seed(3)
    wanted = random.random()
    random.seed(3)
    checked(lambda m: m.ones(40) * 3, verify=0.5)
    assert random.random() == wanted


def test_one_in_so_many_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_random", random.Random(3))
    array = np.arange(40.0)
    with np.dispatch_options(verify=0.25, defer="never"), np.record_dispatch() as record:
        for _ in range(400):
            array * 2
    told = record.summary().to_dict()["verified"]
    assert told["disagreed"] == 0
    assert 70 < told["agreed"] < 130


def test_statements_that_come_again_are_checked(wrong: Any) -> None:
    """Without a recorder, as programs run: the fast path must not keep kernels from the check."""
    array = np.arange(200_000.0)
    other = array + 1
    with np.dispatch_options(verify=0.1), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with own_filters():
            for count in range(120):
                if count == 40:
                    wrong(add_one)
                    np.set_backend("serial")
                result = array * 2 + other * 3 - 1
                last = float(result[-1])
            np.set_backend("auto")
    assert [w.category for w in heard] == [np.VerificationWarning] * len(heard)
    assert heard
    assert last == 199_999 * 2 + 200_000 * 3 - 1


def test_errstate_is_the_programs() -> None:
    """What NumPy meets on the way to its answer is nobody's business."""
    tiny = numpy.full(40, 1e-310)
    with numpy.errstate(all="raise"):
        assert checked(lambda m: m.array(tiny) == m.array(tiny))[0].all()


@pytest.mark.parametrize(
    "program",
    [
        lambda m: m.sin(m.linspace(0, 99, 3000)) - m.sin(m.linspace(0, 99, 3000) + 1e-12),
        lambda m: m.floor(m.exp(m.linspace(0, 9, 3000)) * 1e9),
        lambda m: m.log1p(m.linspace(0, 9, 3000)) > m.log(m.linspace(1, 10, 3000)),
        lambda m: m.exp(m.linspace(0, 9, 3000)).sum() - 1.0,
        lambda m: (m.tan(m.linspace(0, 99, 3000)) ** 3).mean(),
        lambda m: m.prod(m.linspace(0.5, 1.5, 300)),
        lambda m: m.linspace(-1, 1, 3000).reshape(3, -1).sum(axis=1),
        lambda m: m.exp(1j * m.linspace(0, 99, 3000)).sum(),
        lambda m: m.var(m.cos(m.linspace(0, 99, 3000))),
        lambda m: m.full(5000, 60000, "e").sum(),
    ],
)
@pytest.mark.parametrize("engine", ["blocks", "compiled"])
def test_what_is_rounded_otherwise_does_not_disagree(program: Program, engine: str) -> None:
    with numpy.errstate(all="ignore"):
        assert checked(program, engine=engine)[1] == []


def region_of(program: Program) -> tuple[Any, list[numpy.ndarray]]:
    """Return the region that a program of one kernel is, and what it reads."""
    with np.dispatch_options(defer="always"):
        array = program(np)
        graph = survey([array._value], frozenset([id(array._value)]))
        (step,) = plan(graph, True, None, {}).steps
    return step.region, [graph.hosts[i] for _, i in step.inputs]


def test_an_error_is_measured_by_what_it_becomes() -> None:
    """A difference of two near numbers may be off by all of itself, a product may not."""
    region, inputs = region_of(lambda m: m.sin(m.array([1.0, 2.0])) - m.array([0.8414709848, 5.0]))
    (wanted,) = reference.run_reference(region, inputs)
    near = wanted + numpy.array([4e-16, 4e-16])
    assert reference.disagreement(region, inputs, [near]) is None
    far = wanted + numpy.array([1e-12, 0])
    found = reference.disagreement(region, inputs, [far])
    assert found is not None and found.index == (0,)
    numpy.testing.assert_array_equal(far, wanted)


def test_exact_kernels_are_compared_bit_by_bit() -> None:
    region, inputs = region_of(lambda m: m.array([1.0, -0.0, 3.0]) * 1.1 + 0.0)
    (wanted,) = reference.run_reference(region, inputs)
    off = numpy.nextafter(wanted, 9)
    found = reference.disagreement(region, inputs, [off])
    assert found is not None and "3 of 3 elements" in found.text


def test_contractions_that_are_wrong_leave_a_script(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dispatcharr.face import contract
    from dispatcharr.route import contractions

    monkeypatch.setattr(contractions, "_barred", set())
    a = np.array(numpy.arange(2500, dtype="i4").reshape(50, 50) % 7)
    monkeypatch.setattr(contract.numpy, "array_equal", lambda one, other: False)
    told = pytest.warns(np.VerificationWarning, match=r"matmul.*\.py shows it")
    with np.dispatch_options(verify=1.0, engine="compiled"), told:
        a @ a
    (script,) = folder.glob("*.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    made = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, env=environment
    )
    assert made.returncode == 0, made.stderr
    assert "0 of 2500 elements differ now" in made.stdout


@pytest.mark.parametrize("dtype", ["F", "D"])
@pytest.mark.parametrize("name", ["absolute", "sign"])
def test_sizes_of_complex_numbers_may_be_rounded_in_two_ways(name: str, dtype: str) -> None:
    draw = numpy.random.default_rng(6)
    values = (draw.normal(size=5000) + 1j * draw.normal(size=5000)).astype(dtype)
    result, told = checked(lambda m: getattr(m, name)(m.array(values)) + 0.5, engine="compiled")
    assert told == []
    eps = numpy.finfo(dtype).eps
    numpy.testing.assert_allclose(result, getattr(numpy, name)(values) + 0.5, rtol=8 * eps)
