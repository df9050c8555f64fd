"""The laboratory: what `dispatcharr bench` measures, writes and refuses."""

from __future__ import annotations

import importlib.util
import json
import math
from contextlib import nullcontext

import numpy
import pytest

import dispatcharr as ours_module
from dispatcharr._errors import OptionError
from dispatcharr.bench import lab, ours, roof
from dispatcharr.bench.expressions import EXPRESSIONS, chosen_expressions, under
from dispatcharr.bench.peers import PEERS, Peer, chosen_peers
from dispatcharr.bench.results import NUMPY, in_size
from dispatcharr.bench.turns import Contender, Pace, Turns, take_turns
from dispatcharr.cli import bench
from dispatcharr.kernels import native
from dispatcharr.kernels.pool import Pool

TINY = (
    "bench", "--quick", "--sizes", "1e3,2e4", "--budget", "0.2",
    "--expressions", "a+b,square_sum",
)  # fmt: skip
SOME = "selection,stencil,square_sum"
#: A library that understands everything and answers with zeros.
WRONG_NUMEXPR = """
    import numpy
    __version__ = "0.wrong"
    def set_num_threads(count): pass
    def validate(text, local_dict): return TypeError("too hard") if "sum" in text else None
    def evaluate(text, local_dict): return numpy.zeros(local_dict["a"].shape)
"""


@pytest.fixture(scope="module", autouse=True)
def no_second_spent_on_roofs():
    """The roof of this machine is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roof, "_least", lambda run, seconds: run() or 1e-3)
        yield


def test_a_run_prints_and_writes_all_it_found(dispatcharr, tmp_path):
    done = dispatcharr(*TINY, "--peers", "none", "--json", "b.json", "--report", "page.md")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in ("a+b", "((a-b)**2).sum()", "auto", "regret", "roof"):
        assert word in done.stdout
    data = json.loads((tmp_path / "b.json").read_text("utf-8"))
    assert data["schema"] == "dispatcharr.bench/1"
    assert data["contenders"] == ["NumPy", "auto"]
    assert {"serial/blocks", "threads/blocks"} <= set(data["forced"])
    assert data["roof"]["bandwidth"] > 1e8
    assert [(c["expression"], c["size"]) for c in data["cells"]] == [
        ("addition", 1000), ("addition", 20000), ("square_sum", 1000), ("square_sum", 20000),
    ]  # fmt: skip
    for cell in data["cells"]:
        assert cell["speed_up"]["NumPy"] == 1.0
        assert cell["seconds"]["auto"] > 0
        assert cell["wrong"] == {}
        assert cell["chosen"] == "direct" or "/" in cell["chosen"]
        assert cell["rounds"] >= 3
    assert data["cells"][0]["bytes"] == 3 * 8 * 1000
    assert data["cells"][2]["bytes"] == 2 * 8 * 1000 + 8
    page = (tmp_path / "page.md").read_text("utf-8")
    assert page.startswith("# Performance\n\nWritten by `dispatcharr bench --quick ")
    assert "| `a+b` | " in page
    assert data["versions"]["NumPy"] in page
    assert not (tmp_path / "cache" / "profile.json").exists()


def test_plots_are_pictures(dispatcharr, tmp_path):
    pytest.importorskip("matplotlib", reason="it comes with the plot extra")
    done = dispatcharr(*TINY, "--peers", "none", "--plots", "seen", "--report", "page.md")
    assert (done.returncode, done.stderr) == (0, "")
    names = ("speedup.png", "roofline.png", "crossover.png")
    for name in names:
        assert (tmp_path / "seen" / name).read_bytes().startswith(b"\x89PNG")
        assert f"](seen/{name})" in (tmp_path / "page.md").read_text("utf-8")


def test_a_wrong_peer_is_shown_as_wrong_and_is_no_failure(dispatcharr, write, tmp_path):
    write({"numexpr.py": WRONG_NUMEXPR})
    done = dispatcharr(*TINY, "--peers", "numexpr", "--json", "b.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrong" in done.stdout
    first, _, third, _ = json.loads((tmp_path / "b.json").read_text("utf-8"))["cells"]
    assert "off by" in first["wrong"]["numexpr"]
    assert "numexpr" not in first["seconds"]
    assert "too hard" in third["unable"]["numexpr"]


def test_a_peer_that_cannot_be_imported_costs_nothing_else(dispatcharr, write):
    write({"numexpr.py": "raise OSError('its library is broken')"})
    done = dispatcharr(*TINY, "--peers", "numexpr")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be imported: OSError: its library is broken" in done.stdout


def test_a_missing_peer_is_named_with_its_remedy():
    class Absent(Peer):
        name = module = "no_such_module"
        package = "no-such-package[array]"

    peer = Absent()
    assert not peer.load()
    assert peer.missing == "not installed; pip install 'no-such-package[array]'"


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_an_installed_peer_agrees_with_numpy(name, dispatcharr, tmp_path):
    (peer,) = chosen_peers([name])
    if importlib.util.find_spec(peer.module.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed; {peer.remedy}")
    done = dispatcharr(*TINY[:-1], SOME, "--peers", name, "--json", "b.json")
    assert done.returncode == 0, done.stderr
    for cell in json.loads((tmp_path / "b.json").read_text("utf-8"))["cells"]:
        assert (cell["wrong"], cell["unable"]) == ({}, {})
        assert name in cell["seconds"]


def test_a_wrong_answer_of_ours_is_a_failure(inside, monkeypatch):
    monkeypatch.setattr(ours, "prepare", lambda expression, arrays: lambda: arrays[0] * 0)
    done = inside(*TINY, "--peers", "none")
    assert done.returncode == 1
    assert "dispatcharr: auto is wrong at a+b, 1,000: off by 1" in done.stderr
    assert "wrong" in done.stdout


def test_an_error_of_ours_is_a_failure(inside, monkeypatch):
    def prepare(expression, arrays):
        def run():
            raise RuntimeError("out of order")

        return run

    monkeypatch.setattr(ours, "prepare", prepare)
    done = inside(*TINY, "--peers", "none")
    assert done.returncode == 1
    assert "serial/blocks is wrong at a+b, 1,000: RuntimeError: out of order" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], ["No such option", "--nonsense"]),
        (["--sizes", "many"], ["'many'", "1e4,1e6"]),
        (["--sizes", "1e4,3"], ["'3'", "at least 10"]),
        (["--sizes", "1e15"], ["memory are free"]),
        (["--dtype", "int32"], ["'int32'", "float64 or float32"]),
        (["--dtype", "text"], ["'text'"]),
        (["--expressions", "a+b,cosine"], ["'cosine'", "black_scholes"]),
        (["--peers", "numexpr,fortran"], ["'fortran'", "blosc2", "or none"]),
        (["--budget", "0"], ["--budget"]),
        (["--budget", "soon"], ["--budget"]),
        (["--json", "nowhere/b.json"], ["no folder", "--json"]),
        (["--report", "nowhere/page.md"], ["no folder", "--report"]),
        (["--plots", "nowhere/at/all"], ["no folder", "--plots"]),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(arguments, words, inside, monkeypatch):
    monkeypatch.setattr(lab, "run", lambda plan, progress: pytest.fail("it measured"))
    done = inside("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(word in " ".join(done.stderr.split()) for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_plots_without_matplotlib_name_the_remedy(inside, monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    done = inside("bench", "--plots", "seen")
    assert done.returncode == 2
    assert "pip install 'dispatcharr[plot]'" in done.stderr


def test_a_comma_within_brackets_is_part_of_an_expression():
    assert bench._listed("a+b, where(a>b,a,b)*2") == ["a+b", "where(a>b,a,b)*2"]
    assert [e.name for e in chosen_expressions(bench._listed("where(a>b,a,b)*2,sine"))] == [
        "selection", "sine",
    ]  # fmt: skip


def test_peers_are_named_in_any_case_and_none_is_nobody():
    assert [peer.name for peer in chosen_peers(["JAX", "jax", "Dask"])] == ["JAX", "dask"]
    assert chosen_peers(["none"]) == []
    assert len(chosen_peers(None)) == len(PEERS)
    with pytest.raises(OptionError, match="none"):
        chosen_peers(["none", "dask"])


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_text_code_and_dispatcharr_say_the_same(name, dtype):
    expression = EXPRESSIONS[name]
    arrays = expression.make(1000, numpy.dtype(dtype))
    expected = numpy.asarray(expression.compute(*arrays))
    assert numpy.isfinite(expected).all()
    assert expected.dtype == dtype
    allowed = lab._tolerance(expression, numpy.dtype(dtype), arrays[0].size)
    functions = {key: getattr(numpy, key) for key in ("abs", "cos", "exp", "log", "sin", "sqrt")}
    functions |= {key: getattr(numpy, key) for key in ("std", "sum", "tanh", "where")}
    told = eval(expression.formula, functions | expression.operands(arrays))
    assert lab._difference(numpy.asarray(told), expected, allowed) is None
    computed = under(expression.compute, ours_module)(*map(ours_module.array, arrays))
    assert lab._difference(numpy.asarray(computed), expected, allowed) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (numpy.array([1.0, 2.0]), None),
        (numpy.array([1.0, 2.0 + 1e-12]), None),
        (numpy.array([1.0, 2.1], numpy.float32), "off by 0.05"),
        (numpy.array([1.0, math.nan]), "off by nan"),
        (numpy.array([1.0, math.inf]), "off by inf"),
        (numpy.array([[1.0, 2.0]]), "shape (1, 2), not (2,)"),
    ],
)
def test_answers_are_compared_to_the_size_of_the_largest(answer, words):
    found = lab._difference(answer, numpy.array([1.0, 2.0]), 1e-10)
    assert found is None if words is None else found.startswith(words)


def test_contenders_take_turns_within_their_scopes():
    heard = []

    def scope():
        heard.append("scope")
        return nullcontext()

    contenders = [
        Contender("one", lambda: heard.append("one"), scope),
        Contender("two", lambda: heard.append("two")),
    ]
    turns = take_turns(contenders, Pace(0.0, sample=0.0, least=16))
    assert len(turns.rounds) == 16
    assert turns.names == ("one", "two")
    # A sample is a warm run and a measured one; who begins is drawn.
    samples = [word for word in heard if word != "scope"][::2][2:]
    rounds = {tuple(samples[i : i + 2]) for i in range(0, len(samples), 2)}
    assert len(samples) == 32 and rounds == {("one", "two"), ("two", "one")}
    assert heard.count("scope") == 17


def test_regret_is_of_the_best_of_the_others():
    turns = Turns(("auto", "x", "y"), ((3.0, 2.0, 9.0), (3.3, 2.2, 9.0), (2.7, 1.8, 9.0)))
    assert turns.regret("auto", ["x", "y"]) == pytest.approx(1.5)
    assert turns.regret("auto", ["y"]) == pytest.approx(1 / 3, rel=0.05)
    single = Turns(("auto", "x"), ((3.0, 2.0),))
    assert single.regret("auto", ["x"]) == pytest.approx(1.5)


def test_an_answer_of_another_type_is_noted_and_counts():
    entry = lab._Entry(numpy.ones(3, numpy.float32), 1e-6)
    assert entry.admit(Contender(NUMPY, lambda: numpy.ones(3, numpy.float32)))
    assert entry.admit(Contender("wide", lambda: numpy.ones(3)))
    assert entry.notes == {"wide": "answers in float64"}


@pytest.mark.skipif(isinstance(native.host(), str), reason="there is no compiler")
def test_the_loops_of_the_roof_do_what_they_are_counted_for():
    a, b, c = (roof._aligned(4096) for _ in range(3))
    a[:], b[:] = numpy.arange(4096), 2.0
    loops = roof._compiled((a, b, c), Pool(2))
    loops["copy"]()
    assert (c == a).all()
    loops["triad"]()
    assert (c == a + 6.0).all()
    loops["read"]()
    assert all(array.ctypes.data % 64 == 0 for array in (a, b, c))


def test_sizes_in_few_characters():
    assert [in_size(size) for size in (10, 1000, 30_000, 12_345)] == ["10", "1e3", "3e4", "12345"]
