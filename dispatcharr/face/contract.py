"""Contractions of integers and bools, which NumPy leaves to plain loops: who catches them, when.

Calls of NumPy's functions come by here before they are left to NumPy. What is a product of matrices
(:mod:`products`), has a kernel and is faster that way is computed here; everything else, and
everything about errors, is NumPy's.

A kernel is built once the time that it would have saved has paid for it. ``engine="compiled"`` has
it built at once, ``"blocks"`` does without.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy

from dispatcharr import _events
from dispatcharr._config import Options, options
from dispatcharr.face import _fastpath
from dispatcharr.face.array import is_writeable, unwrap
from dispatcharr.face.products import ROADS, Product, road_of
from dispatcharr.face.road import contractions, engine, verification
from dispatcharr.storage import places, pool
from dispatcharr.storage.readers import any_pending

if TYPE_CHECKING:
    from dispatcharr.route.contractions import Choice

__all__ = ["LEFT", "NAMES", "asked", "attempt"]

#: Names under which calls come by.
NAMES = frozenset([function.__name__ for function in ROADS])
#: What :func:`attempt` returns for what is NumPy's to do.
LEFT: Any = object()
#: Multiplications under which nothing is worth a closer look.
_UNREAD = 1 << 15
#: Calls that were left to NumPy, by what they depend on, each with whom to ask whether they still
#: are to be.
_left: dict[tuple[Any, ...], Callable[[], bool]] = {}
_MOST_LEFT = 256


def attempt(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what NumPy's ``function`` would, computed by a compiled kernel, or :data:`LEFT`."""
    road, chosen = road_of(function), options()
    if road is None or chosen.engine == "blocks":
        return LEFT
    plain = unwrap(args)
    is_free = chosen.engine == "auto"
    given = dict(kwargs)
    out = _single(given.pop("out", None))
    said = *plain, *given, *given.values()
    form = (name, chosen.backend, chosen.threads, *map(_form, said))
    if is_free:
        waits = _left.get(form)
        if waits is not None and waits():
            return LEFT
    product = road(plain, unwrap(given))
    if product is None or (is_free and product.elements * product.summed < _UNREAD):
        return LEFT
    host = unwrap(out)
    if host is not None and not _can_take(host, product):
        return LEFT
    before = pool.enter()
    try:
        made, choice = _run(name, product, host, chosen)
    finally:
        pool.leave(before)
    if made is LEFT:
        if is_free and choice is not None:
            _leave(form, choice)
        return LEFT
    return _fastpath.wrap(made) if out is None else out


def asked(name: str, function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return whom the fast path is to ask about calls of ``function``; None for nobody."""
    if road_of(function) is None:
        return None

    def first(*args: Any, **kwargs: Any) -> Any:
        found = attempt(name, function, args, kwargs)
        return NotImplemented if found is LEFT else found

    return first


def _form(value: Any) -> Any:
    """Return what a choice depends on of an argument."""
    if type(value) is numpy.ndarray:
        return value.dtype.char, value.shape, value.strides
    return value if type(value) in (str, int) or isinstance(value, (type, numpy.dtype)) else None


def _leave(form: tuple[Any, ...], choice: Choice) -> None:
    if len(_left) >= _MOST_LEFT:
        _left.clear()
    _left[form] = choice.waits
    choice.waits()


def _single(out: Any) -> Any:
    return out[0] if type(out) is tuple and len(out) == 1 else out


def _can_take(host: Any, product: Product) -> bool:
    """Return whether the result may be written to ``host`` as it is."""
    return (
        type(host) is numpy.ndarray
        and host.dtype == product.dtype
        and is_writeable(host)
        and host.flags.c_contiguous
        and host.shape == product.result
    )


def _run(
    name: str, product: Product, host: numpy.ndarray | None, chosen: Options
) -> tuple[Any, Choice | None]:
    """Compute ``product``, into ``host`` if it is given; also say what was chosen."""
    a, b = product.a, product.b
    shared = host is not None and (
        numpy.may_share_memory(host, a) or numpy.may_share_memory(host, b)
    )
    made = product.zeros() if host is None or shared else host
    is_scalar = type(made) is not numpy.ndarray
    if is_scalar:
        made = numpy.zeros((), product.dtype)
    c = made.reshape(product.shape)
    if not numpy.may_share_memory(c, made):
        return LEFT, None  # its layout is not one of matrices
    start = time.perf_counter()
    choice = contractions.choose(a, b, c, product.einsum, chosen)
    if choice.run is None:
        return LEFT, choice
    if host is not None and any_pending():
        engine.before_write(host)
    with places.writing((host,) if host is not None else ()):
        backend = choice.run()
    seconds = time.perf_counter() - start
    verified = None
    if chosen.verify and verification.is_due(chosen.verify):
        verified = _verified(name, product, c, choice)
    if host is not None and shared:
        with places.writing((host,)):
            host[...] = made
    if _events.listened():
        _events.emit(_events.ContractionRecord(name, _account(product), seconds, backend, verified))
    return made[()] if is_scalar else made, choice


def _account(product: Product) -> str:
    """Return what was done."""
    return f"compiled contraction of {product.a.dtype} by {product.b.dtype} to {product.dtype}"


def _verified(name: str, product: Product, c: numpy.ndarray, choice: Choice) -> bool:
    """Return whether NumPy agrees. If not, its answer stands, and the kernel is not used again."""
    wanted = numpy.matmul(product.a, product.b, dtype=product.dtype, casting="unsafe")
    if numpy.array_equal(wanted, c):
        return True
    got = c.copy()
    c[...] = wanted
    if choice.key is not None:
        contractions.bar(choice.key)
    call = f"np.matmul(r0, r1, dtype={product.dtype.char!r}, casting='unsafe')"
    operands = product.a, product.b
    verification.tell_of_call(f"{name}, a {_account(product)},", call, operands, got, wanted)
    return False
