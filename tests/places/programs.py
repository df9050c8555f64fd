"""Random programs on aliased arrays, run twice: with our arrays, and with NumPy's."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy

import dispatcharr as np

SHAPES = [(7,), (40,), (30, 40), (40, 30), (3000,), (120, 100), (40,), (100,)]
_KEYS: list[Callable[[random.Random, tuple[int, ...]], Any]] = [
    lambda r, s: r.randrange(-s[0], s[0]),
    lambda r, s: slice(r.randrange(s[0]), None, r.choice([1, 2, -1])),
    lambda r, s: slice(0, r.randrange(1, s[0] + 1)),
    lambda r, s: (Ellipsis, r.randrange(s[-1])),
    lambda r, s: (Ellipsis, slice(None, None, 3)),
    lambda r, s: tuple(r.randrange(n) for n in s),
    lambda r, s: [r.randrange(s[0]) for _ in range(3)],
    lambda r, s: Ellipsis,
]


class Program:
    """Pairs of arrays, of ours and of NumPy's, that are to stay alike."""

    def __init__(self, seed: int, contexts: list[Callable[[], Any]] | None = None) -> None:
        self.random = random.Random(seed)
        self.contexts = contexts or [nullcontext]
        self.pairs: list[tuple[Any, numpy.ndarray]] = []
        #: Memory that the outside holds.
        self.lent: list[tuple[numpy.ndarray, numpy.ndarray]] = []
        self.said: list[str] = []
        self.steps = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            step = self.random.choice(self.steps)
            self.said.append(step.__name__)
            with self.random.choice(self.contexts)():
                if len(self.pairs) < 3:
                    self.do_create()
                step()
            if len(self.pairs) > 12:
                del self.pairs[self.random.randrange(len(self.pairs))]
        for number in range(len(self.pairs)):
            self.check(number)

    def check(self, number: int) -> None:
        ours, numpys = self.pairs[number]
        found = ours.to_numpy(copy=True) if type(ours) is np.ndarray else ours
        same = found.dtype == numpys.dtype and numpy.array_equal(found, numpys)
        assert same, f"{found!r} is not {numpys!r} after {self.said}"

    def pick(self) -> tuple[Any, numpy.ndarray]:
        return self.random.choice(self.pairs)

    def like(self, numpys: numpy.ndarray) -> tuple[Any, Any]:
        """Return what can be combined with an array."""
        fit = [
            pair for pair in self.pairs
            if pair[1].dtype == numpys.dtype
            and pair[1].shape in (numpys.shape, numpys.shape[1:], (1, *numpys.shape[1:]))
        ]  # fmt: skip
        value = self.random.choice([1, 2, -3])
        return self.random.choice([*fit, (value, value)])

    def bounded(self, value: Any) -> Any:
        """Keep numbers such that floats are exact."""
        return value % 1024

    def do_create(self) -> None:
        shape = self.random.choice(SHAPES)
        kind = self.random.choice([numpy.float64, numpy.int64, numpy.float32])
        values = numpy.arange(numpy.prod(shape)).reshape(shape).astype(kind) % 97
        self.pairs.append((np.array(values), values))

    def do_view(self) -> None:
        ours, numpys = self.pick()
        if not numpys.ndim or not numpys.size:
            return
        view = self.random.choice([
            lambda x: x[1:], lambda x: x[::-2], lambda x: x.T, lambda x: x.reshape(-1)[:50],
            lambda x: x[..., 0:5], lambda x: x[None], lambda x: x[0], lambda x: x.swapaxes(0, -1),
        ])  # fmt: skip
        made = view(ours), view(numpys)
        if type(made[1]) is numpy.ndarray and made[1].size:
            self.pairs.append(made)

    def do_combine(self) -> None:
        ours, numpys = self.pick()
        other, others = self.like(numpys)
        operation = self.random.choice([
            lambda n, x, y: x + y, lambda n, x, y: x * 2 - y, lambda n, x, y: n.maximum(x, y),
            lambda n, x, y: n.where(x > y, x, y), lambda n, x, y: abs(x - y) * (x > 3),
        ])  # fmt: skip
        result = self.bounded(operation(np, ours, other))
        results = self.bounded(operation(numpy, numpys, others))
        if type(results) is numpy.ndarray:
            self.pairs.append((result, results))

    def do_reduce(self) -> None:
        ours, numpys = self.pick()
        if not numpys.ndim or not numpys.size or numpys.dtype == numpy.float32:
            return
        reduce = self.random.choice([
            lambda x: x.sum(axis=0), lambda x: x.max(axis=-1), lambda x: x.sum(), lambda x: x.min(),
            lambda x: x.any(axis=0), lambda x: (x * 2).sum(axis=-1),
        ])  # fmt: skip
        result, results = reduce(ours), reduce(numpys)
        if type(results) is numpy.ndarray and results.dtype != bool:
            self.pairs.append((self.bounded(result), self.bounded(results)))
        elif type(results) is not numpy.ndarray:
            assert result == results, self.said

    def do_update(self) -> None:
        ours, numpys = self.pick()
        other, others = self.like(numpys)
        ours += other
        ours %= 1024
        numpys += others
        numpys %= 1024

    def do_update_part(self) -> None:
        ours, numpys = self.pick()
        if numpys.ndim and numpys.shape[0] > 2:
            for x in (ours, numpys):
                x[1:-1] *= 2
                x[1:-1] %= 1024

    def do_shift(self) -> None:
        ours, numpys = self.pick()
        if numpys.ndim and len(numpys) > 1:
            for x in (ours, numpys):
                x[1:] = x[:-1]

    def do_write(self) -> None:
        ours, numpys = self.pick()
        if not numpys.ndim or not numpys.size:
            return
        key = self.random.choice(_KEYS)(self.random, numpys.shape)
        value = self.random.choice([5, 2.5, numpy.int8(3)])
        ours[key] = value
        numpys[key] = value

    def do_write_array(self) -> None:
        ours, numpys = self.pick()
        other, others = self.like(numpys)
        ours[...] = other
        numpys[...] = others

    def do_fill(self) -> None:
        ours, numpys = self.pick()
        value = self.random.randrange(9)
        ours.fill(value)
        numpys.fill(value)

    def do_out(self) -> None:
        ours, numpys = self.pick()
        other, others = self.like(numpys)
        np.minimum(ours, other, out=ours)
        numpy.minimum(numpys, others, out=numpys)

    def do_opaque(self) -> None:
        ours, numpys = self.pick()
        if not numpys.ndim or not numpys.size:
            return
        operation = self.random.choice([
            lambda n, x: x.sort(axis=0), lambda n, x: n.put(x, [0], [7]),
            lambda n, x: n.copyto(x, 3), lambda n, x: n.add.at(x, 0, 1),
        ])  # fmt: skip
        operation(np, ours)
        operation(numpy, numpys)

    def do_make(self) -> None:
        ours, numpys = self.pick()
        operation = self.random.choice([
            lambda n, x: n.sort(x, axis=None), lambda n, x: x.copy(), lambda n, x: n.array(x),
            lambda n, x: x.astype(numpy.int64), lambda n, x: n.concatenate([x.ravel()] * 2),
            lambda n, x: x.flatten(), lambda n, x: n.cumsum(x.ravel()) % 1024,
        ])  # fmt: skip
        made = operation(np, ours), operation(numpy, numpys)
        if made[1].size < 20000:
            self.pairs.append(made)

    def do_look(self) -> None:
        ours, numpys = self.pick()
        if not numpys.ndim or not numpys.size:
            return
        key = self.random.choice(_KEYS[:6])(self.random, numpys.shape)
        assert numpy.array_equal(np.asarray(ours[key]).to_numpy(copy=True), numpys[key]), self.said
        assert str(ours) == str(numpys), self.said

    def do_check(self) -> None:
        self.check(self.random.randrange(len(self.pairs)))

    def do_lend(self) -> None:
        ours, numpys = self.pick()
        if len(self.lent) < 3:
            self.lent.append((numpy.asarray(ours), numpys))

    def do_write_outside(self) -> None:
        if self.lent:
            for x in self.random.choice(self.lent):
                x[...] = 11

    def do_give_back(self) -> None:
        if self.lent:
            self.lent.pop()

    def do_forget(self) -> None:
        if len(self.pairs) > 3:
            del self.pairs[self.random.randrange(len(self.pairs))]
