"""The promises under the compiled engine, made to do all that it can.

Every test of this folder holds there too, which takes minutes. The gate has the few in which
compiled kernels once differed from NumPy, or may differ as the module ``rows`` says. They run in a
process of their own: what is compiled would serve the kernels of other tests as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dispatcharr as np
from dispatcharr.kernels import native
from dispatcharr.kernels.build import shared_builder
from rows import ROWS, is_exact, promised

HERE = Path(__file__)
OTHERS = sorted(path.name for path in HERE.parent.glob("test_*.py") if path != HERE)
needs_compiler = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))
ENVIRONMENT = {"DISPATCHARR_ENGINE": "compiled", "DISPATCHARR_DEFER": "always"}
CHOSEN = (
    "test_elementwise.py::test_scalars[clip]",
    "test_elementwise.py::test_scalars[power]",
    "test_elementwise.py::test_special_values_of_equal_dtypes[absolute]",
    "test_elementwise.py::test_special_values_of_equal_dtypes[exp]",
    "test_elementwise.py::test_special_values_of_equal_dtypes[fmax]",
    "test_elementwise.py::test_special_values_of_equal_dtypes[reciprocal]",
    "test_elementwise.py::test_views_of_the_same_memory[multiply]",
    "test_elementwise.py::test_fused_with_neighbours[divide]",
    "test_elementwise.py::test_layouts[sin]",
    "test_errors.py::test_error_states[serial-cos]",
    "test_keywords.py::test_out_that_is_an_operand[log]",
    "test_keywords.py::test_clip_as_function_and_method[f]",
    "test_operators.py::test_powers[inf]",
    "test_compiled.py::test_kernels_are_compiled_where_that_is_asked_for",
)


def check(*tests: str) -> None:
    """Run tests of this folder in another process, with all that can be compiled."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    found = subprocess.run(
        [*command, *(str(HERE.with_name(test)) for test in tests)],
        env=kept | ENVIRONMENT, capture_output=True, text=True, check=False, cwd=HERE.parents[2],
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-1000:]


@needs_compiler
@pytest.mark.timeout(300)
def test_what_compiled_kernels_may_get_wrong() -> None:
    check(*CHOSEN)


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", OTHERS)
def test_all_that_is_promised_holds_for_compiled_kernels(name: str) -> None:
    check(name)


@pytest.mark.skipif(
    not ENVIRONMENT.items() <= os.environ.items(), reason="what runs the other tests runs this one"
)
def test_kernels_are_compiled_where_that_is_asked_for() -> None:
    before = shared_builder().counts.compiled
    x = np.arange(50.0)
    np.evaluate((x + 1) * (x - 2) / (x + 3) - x)
    assert shared_builder().counts.compiled > before


def test_other_engines_keep_to_numpys_bits() -> None:
    exact = [row for row in ROWS.values() if is_exact(row)]
    with np.dispatch_options(engine="blocks"):
        assert len({promised(row) for row in exact}) == 1
    with np.dispatch_options(engine="compiled"):
        assert len({promised(row) for row in exact}) > 1
