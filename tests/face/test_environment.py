"""What the environment says: read once, checked, and named in errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Script = Callable[..., str]
USE = """
import numpy
import dispatcharr as np
from dispatcharr._config import options
with np.record_dispatch() as record:
    numpy.asarray(np.array(numpy.ones(5000)) * 2 + 1)
print(options().backend, options().on_fallback, options().defer, options().verify,
      sorted({k.decision.backend for k in record.records}), {k.verified for k in record.records})
"""


def test_nothing_set(script: Script) -> None:
    assert script(USE) == "auto silent auto 0.0 [] set()\n"


def test_backend(script: Script) -> None:
    assert script(USE, DISPATCHARR_BACKEND="serial") == (
        "serial silent auto 0.0 ['serial'] {None}\n"
    )
    assert script(USE, DISPATCHARR_BACKEND="auto").startswith("auto")


def test_unknown_backend(script: Script) -> None:
    text = script(USE, check=False, DISPATCHARR_BACKEND="warp")
    last = text.strip().splitlines()[-1]
    assert "BackendUnavailableError" in last
    assert "'warp'" in last
    assert "'serial'" in last


def test_defer_verify_and_fallback(script: Script) -> None:
    printed = script(
        USE, DISPATCHARR_DEFER="always", DISPATCHARR_VERIFY="1", DISPATCHARR_ON_FALLBACK="log"
    )
    assert printed == "auto log always 1.0 ['serial'] {True}\n"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("DISPATCHARR_VERIFY", "often", "share between 0 and 1"),
        ("DISPATCHARR_VERIFY", "7", "share between 0 and 1"),
        ("DISPATCHARR_DEFER", "maybe", "'auto', 'always', 'never'"),
        ("DISPATCHARR_ON_FALLBACK", "shout", "'silent', 'log', 'warn', 'raise'"),
    ],
)
def test_impossible_values(name: str, value: str, wanted: str, script: Script) -> None:
    text = script("import dispatcharr", check=False, **{name: value})
    last = text.strip().splitlines()[-1]
    assert "OptionError" in last
    assert wanted in last
    assert repr(value) in last or value in last


@pytest.mark.parametrize("value", ["abc", "0", "-2", "1.5", ""])
def test_impossible_numbers_of_threads(value: str, script: Script) -> None:
    text = script(
        """
        import numpy
        import dispatcharr as np
        with np.use_backend("threads"):
            numpy.asarray(np.array(numpy.ones(100_000)) * 2)
        """,
        check=False,
        DISPATCHARR_NUM_THREADS=value,
    )
    last = text.strip().splitlines()[-1] if text.strip() else ""
    if value == "":
        assert last == "" or "OptionError" in last or "BackendUnavailableError" in last
        return
    assert "Error" in last
    assert "DISPATCHARR_NUM_THREADS" in last
    assert value in last
    assert "at least 1" in last or "whole number" in last


def test_one_thread(script: Script) -> None:
    text = script(
        "import dispatcharr as np\nnp.use_backend('threads')",
        check=False,
        DISPATCHARR_NUM_THREADS="1",
    )
    last = text.strip().splitlines()[-1]
    assert "BackendUnavailableError" in last
    assert "DISPATCHARR_NUM_THREADS" in last


def test_three_threads(script: Script) -> None:
    printed = script(
        """
        import numpy
        import dispatcharr as np
        from dispatcharr.kernels.pool import thread_count
        with np.use_backend("threads"):
            numpy.asarray(np.array(numpy.ones(100_000)) * 2)
        print(thread_count())
        """,
        DISPATCHARR_NUM_THREADS="3",
    )
    assert printed == "3\n"


def test_without_the_compiled_fast_path(script: Script) -> None:
    code = "from dispatcharr.face import _fastpath\nimport dispatcharr\nprint(_fastpath.COMPILED)"
    assert script(code, DISPATCHARR_PURE_PYTHON="1") == "False\n"


def test_the_environment_is_read_once(script: Script) -> None:
    printed = script(
        """
        import os
        import dispatcharr as np
        from dispatcharr._config import options
        os.environ["DISPATCHARR_BACKEND"] = "serial"
        os.environ["DISPATCHARR_DEFER"] = "always"
        np.ones(3) + 1
        print(options().backend, options().defer)
        """
    )
    assert printed == "auto auto\n"
