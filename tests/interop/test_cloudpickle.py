"""cloudpickle of what holds our arrays."""

from __future__ import annotations

import pickle
from functools import partial

from neighbours import Call, Neighbour, load

cp = load("cloudpickle")
cloudpickle = Neighbour("cloudpickle")
cloudpickle.ours("dumps(x), loads", lambda a: cp.loads(cp.dumps(a.random(3))))
cloudpickle.ours(
    "dumps(partial(abs, x)), loads", lambda a: pickle.loads(cp.dumps(partial(abs, a.normal(3))))()
)


@cloudpickle.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
