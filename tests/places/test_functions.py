"""Every function of NumPy's answers the same about arrays whose bytes are on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from alike import (
    VALUES,
    WAYS,
    alike,
)

pytestmark = pytest.mark.usefixtures("device")


_NO_FUNCTIONS = {
    "save", "savez", "savez_compressed", "savetxt", "load", "loadtxt", "fromfile", "genfromtxt",
    "fromregex", "memmap", "test", "info", "show_config", "show_runtime", "get_include", "seterr",
    "seterrcall", "setbufsize", "set_printoptions", "lookfor", "source", "who", "empty",
    "empty_like", "printoptions", "errstate", "frombuffer", "from_dlpack", "iterable", "nditer",
    "nested_iters", "ndenumerate", "broadcast", "may_share_memory", "getbufsize", "geterr",
    "can_cast", "issubdtype", "promote_types", "geterrcall", "get_printoptions", "typename",
    "base_repr", "binary_repr", "require",
}  # fmt: skip
FUNCTIONS = sorted(
    name
    for name in dir(numpy)
    if callable(getattr(numpy, name))
    and not isinstance(getattr(numpy, name), type)
    and not name.startswith("_")
    and name not in _NO_FUNCTIONS
)
TRIES: list[Callable[..., Any]] = [
    lambda f, x, y: f(x),
    lambda f, x, y: f(x, y),
    lambda f, x, y: f(x, 1),
    lambda f, x, y: f([x, y]),
    lambda f, x, y: f(x, y, x),
    lambda f, x, y: f(x, 1, y),
    lambda f, x, y: f(x, [1, 2], [3, 4]),
    lambda f, x, y: f(x, y, out=y),
    lambda f, x, y: f(x, out=y),
    lambda f, x, y: f(x, 2, 1),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_answers_as_numpys(name: str, way: str) -> None:
    ours, numpys = getattr(np, name), getattr(numpy, name)
    for dtype in ("float64", "int64", "bool"):
        for pair in ([VALUES[dtype][:40, :40]] * 2, [VALUES[dtype][0, :6]] * 2):
            for attempt in TRIES:
                if name in ("pad", "tile", "repeat", "kron", "vander", "outer", "eye", "identity",
                            "tri", "indices", "diag", "diagflat", "block", "meshgrid",
                            "tensordot", "unravel_index") and pair[0].size > 100:  # fmt: skip
                    continue
                alike(
                    lambda x, y, attempt=attempt: attempt(ours, x, y),
                    lambda x, y, attempt=attempt: attempt(numpys, x, y),
                    pair,
                    way,
                )
