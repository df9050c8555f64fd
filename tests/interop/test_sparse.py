"""sparse with our arrays."""

from __future__ import annotations

from typing import Any

import dispatcharr as np
from neighbours import Arrays, Call, Neighbour, load

sp = load("sparse")
sparse = Neighbour("sparse")


def coo(a: Arrays) -> Any:
    return sp.COO(sp.asarray([[0.0, 1.0], [2.0, 0.0]]))


sparse.numpys(
    "COO.from_numpy(x).todense(), asarray(x)",
    lambda a: [sp.COO.from_numpy(a([0.0, 1.0])).todense(), sp.asarray(a([0.0, 1.0])).todense()],
)
sparse.numpys(
    "COO(x2d), GCXS(x2d)",
    lambda a: [kind(a([[0.0, 1.0], [2.0, 0.0]])).todense() for kind in (sp.COO, sp.GCXS)],
)
sparse.numpys(
    "coo * x, x * coo, np.multiply(coo, x)",
    lambda a: [
        (coo(a) * a.random(2, 2)).todense(),
        (a.random(2, 2) * coo(a)).todense(),
        a.np.multiply(coo(a), a.random(2, 2)).todense(),
    ],
)
sparse.works(
    "coo + x, x + coo",
    lambda a: [(coo(a) + a.random(2, 2)).tolist(), (a.random(2, 2) + coo(a)).tolist()],
)
sparse.numpys(
    "coo @ x, coo @ x2d, tensordot(coo, x2d, axes=1)",
    lambda a: [
        coo(a) @ a.random(2),
        coo(a) @ a.random(2, 3),
        sp.tensordot(coo(a), a.random(2, 2), axes=1),
    ],
)
sparse.ours("x @ coo, x2d @ coo", lambda a: [a.random(2) @ coo(a), a.random(3, 2) @ coo(a)])


@sparse.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_a_class_that_knows_numpys_arrays_alone_gets_them() -> None:
    import numpy

    class Knows:
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
            others = [value for value in inputs if value is not self]
            if any(type(value) is not numpy.ndarray for value in others):
                return NotImplemented
            return ufunc.__name__, [value.tolist() for value in others]

    for module in (np, numpy):
        assert module.add(np.ones(2), Knows()) == ("add", [[1.0, 1.0]])
        assert module.add(Knows(), np.ones(2)) == ("add", [[1.0, 1.0]])
    assert np.ones(2) + Knows() == ("add", [[1.0, 1.0]])
