"""What is said where a library's refusal of our arrays ends a program, and where nothing is."""

from __future__ import annotations

import code
import ctypes
import json
import sys
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import remedies
from dispatcharr.face.refusals import remedy

LIBRARY = """
import ctypes
import numpy

def from_numpy(values):
    if not isinstance(values, numpy.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(values).__name__})")
    return values.shape

def convert(values):
    if isinstance(values, numpy.ndarray):
        return values.shape
    raise ValueError(f"no way to convert {type(values)}")

def flat(values):
    if values.ndim != 1:
        raise ValueError("values must be a 1-D ndarray")

def tensor(values):
    raise TypeError(f"sin(): argument 'input' must be Tensor, not {type(values).__name__}")

class Call:
    def inner(self, values):
        return native(TypeError, b"'a' has incorrect type (expected numpy.ndarray)", values)
    def outer(self, dest):
        return self.inner(dest)

class Native(ctypes._CFuncPtr):
    "Raises what it is told to, without a frame of its own."
    _flags_ = ctypes._FUNCFLAG_CDECL | ctypes._FUNCFLAG_PYTHONAPI
    _restype_ = None
    _argtypes_ = (ctypes.py_object, ctypes.c_char_p, ctypes.py_object)

native = Native(("PyErr_Format", ctypes.pythonapi))
"""


@cache
def library() -> Any:
    made = types.ModuleType("torch_like")
    exec(LIBRARY, vars(made))
    return made


def error_of(call: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


x = np.ones(3)
square = np.ones((2, 2))
held = types.SimpleNamespace(image=x)
NOT_NUMPYS = b"src is not a numpy array, neither a scalar"

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "python": (lambda: library().from_numpy(x), "from_numpy: `x` is a dispatcharr.ndarray"),
    "python, by the class": (lambda: library().convert(x), "convert: `x` is"),
    "compiled": (lambda: library().native(TypeError, NOT_NUMPYS, x), "pass x.to_numpy() or"),
    "compiled, own error": (lambda: library().native(KeyedError, NOT_NUMPYS, x), "`x` is"),
    "of an expression": (lambda: library().native(TypeError, NOT_NUMPYS, x[::2]), "`x` is"),
    "of an attribute": (lambda: library().native(TypeError, NOT_NUMPYS, held.image), "held.image"),
    "of several": (lambda: library().native(*[TypeError, NOT_NUMPYS, x]), "`x` is"),
    "without a name": (lambda: library().native(TypeError, NOT_NUMPYS, np.ones(2)), "was given"),
    "further in": (lambda: library().Call().outer(x), "Call.outer: `x` is"),
}

OTHERS: dict[str, Callable[[], Any]] = {
    "broadcast": lambda: x - [1, 2],
    "reshape": lambda: x.reshape(7),
    "axis": lambda: np.sum(x, axis=5),
    "numpy's": lambda: numpy.linalg.inv(x),
    "dot": lambda: x.dot(np.ones(7)),
    "truth": lambda: bool(x),
    "an index": lambda: [1, 2][x],
    "an attribute": lambda: x.nothing,
    "json": lambda: json.dumps(x),
    "hash": lambda: {x: 1},
    "Python's": lambda: bytes.fromhex(x),
    "ctypes": lambda: ctypes.pythonapi.PyLong_FromLong(x),
    "a shape": lambda: library().flat(square),
    "another type": lambda: library().tensor(x),
    "arguments": lambda: library().from_numpy(x, 1),
    "compiled, another message": lambda: library().native(TypeError, b"bad kernel", x),
    "compiled, a dtype": lambda: library().native(TypeError, b"expected np.ndarray of dtype f4", x),
    "compiled, none of ours": lambda: library().native(TypeError, NOT_NUMPYS, [1]),
    "another kind": lambda: library().native(KeyError, NOT_NUMPYS, x),
}


class KeyedError(Exception):
    """A library's own."""


@pytest.mark.parametrize("call", REFUSED)
def test_a_refusal_is_known(call: str) -> None:
    refused, said = REFUSED[call]
    note = remedy(error_of(refused))
    assert note is not None
    assert said in note
    assert "numpy.asarray(" in note


@pytest.mark.parametrize("call", OTHERS)
def test_other_errors_get_no_remedy(call: str) -> None:
    assert remedy(error_of(OTHERS[call])) is None


def test_numpys_arrays_need_no_remedy() -> None:
    n = numpy.ones(3)
    assert remedy(error_of(lambda: library().native(TypeError, NOT_NUMPYS, n))) is None


def test_errors_that_end_a_program_or_thread_name_the_remedy(
    script: Callable[..., str], tmp_path: Path
) -> None:
    """Those before us still print what they printed; what is caught is left alone."""
    (tmp_path / "torch_like.py").write_text(LIBRARY)
    told = script(
        """
        import sys, threading
        former = sys.excepthook
        sys.excepthook = lambda *error: (print("before us", file=sys.stderr), former(*error))
        import torch_like
        import dispatcharr as np

        x = np.ones(3)
        try:
            torch_like.from_numpy(x)
        except TypeError as error:
            assert not hasattr(error, "__notes__")
        assert "dispatcharr.face.refusals" not in sys.modules
        threaded = threading.Thread(target=lambda: torch_like.convert(x))
        threaded.start()
        threaded.join()
        torch_like.native(ValueError, b"src is not a numpy array, neither a scalar", x)
        """,
        check=False,
        PYTHONPATH=f"{Path(np.__file__).parents[1]}:{tmp_path}",
    )
    assert told.count("numpy.asarray(x)") == 2
    assert told.count("before us") == 1
    assert "ValueError: src is not" in told
    assert "convert: `x` is a dispatcharr.ndarray" in told


def test_an_interactive_shell_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []

    class Shell:
        def showtraceback(self, exc_tuple: Any = None, **_: Any) -> None:
            error = sys.exc_info()[1] if exc_tuple is None else exc_tuple[1]
            shown.append(getattr(error, "__notes__", []))

    shell = Shell()
    monkeypatch.setitem(
        sys.modules,
        "IPython",
        types.SimpleNamespace(get_ipython=lambda: shell),  # type: ignore[arg-type]
    )
    remedies._precede_ipython()
    for call in (REFUSED["python"][0], OTHERS["broadcast"]):
        try:
            call()
        except Exception as error:
            shell.showtraceback()
            shell.showtraceback((type(error), error, error.__traceback__))
    assert list(map(len, shown)) == [1, 1, 0, 0]


def test_what_cannot_be_read_is_printed_all_the_same() -> None:
    class Odd(TypeError):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    remedies.add_remedy(None)
    remedies.add_remedy(KeyboardInterrupt())
    remedies.add_remedy(Odd())


def test_a_console_still_writes_errors_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does where Python's hook is the usual one; in a window, nobody sees what is printed."""
    written: list[str] = []

    class Console(code.InteractiveInterpreter):
        def write(self, data: str) -> None:
            written.append(data)

    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        monkeypatch.setattr(sys, name, None, raising=False)
    monkeypatch.setattr(sys, "__excepthook__", sys.__excepthook__)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    remedies._precede_interpreter()
    assert sys.excepthook is sys.__excepthook__
    Console({"refused": REFUSED["python"][0]}).runsource("refused()")
    assert len(written) == 1
