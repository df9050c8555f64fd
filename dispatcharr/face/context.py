"""What users say about routing and may ask of it: overrides, options, records, explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy

from dispatcharr import _events
from dispatcharr._config import options, set_process
from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath, limits
from dispatcharr.face.array import is_array
from dispatcharr.face.override import Override, closed_by_options
from dispatcharr.face.road import engine, profiles, registry
from dispatcharr.storage import places
from dispatcharr.storage.readers import pending_arrays

if TYPE_CHECKING:
    from dispatcharr.backends.base import Profile
    from dispatcharr.explain.explanation import Explanation
    from dispatcharr.explain.recorder import Recorder

__all__ = [
    "calibrate", "dispatch_options", "evaluate", "explain", "record_dispatch", "set_backend",
    "use_backend",
]  # fmt: skip

_Function = TypeVar("_Function", bound=Callable[..., Any])
_process_closed: list[Callable[[int], int]] = []


def follow_process_options() -> None:
    """Open or close the fast path as the process's options ask."""
    if options().backend != "auto":
        registry.backend(options().backend)
    wanted = closed_by_options()
    for close in wanted:
        close(1)
    for close in _process_closed:
        close(-1)
    _process_closed[:] = wanted


def use_backend(name: str) -> Override:
    """Run kernels on the named backend inside a ``with`` block or a decorated function.

    Parameters
    ----------
    name : str
        ``"serial"``, ``"threads"``, ``"cuda"``, a third party's name, or ``"auto"``.

    Returns
    -------
    context manager and decorator
        It nests, and holds for the current thread or async task only.

    Raises
    ------
    BackendUnavailableError
        The name is unknown, or the backend cannot run here. A ``ValueError``.

    Examples
    --------
    >>> import dispatcharr as np
    >>> with np.use_backend("serial"):
    ...     float(np.arange(5.0).sum())
    10.0
    """
    if name != "auto":
        registry.backend(name)
    return Override({"backend": name}, "use_backend")


def set_backend(name: str) -> None:
    """Run kernels on the named backend in the whole process; ``"auto"`` takes it back.

    Parameters
    ----------
    name : str
        As for :func:`use_backend`, whose blocks win over this.

    Examples
    --------
    >>> import dispatcharr as np
    >>> np.set_backend("auto")
    """
    if name != "auto":
        registry.backend(name)
    set_process({"backend": name}, "set_backend")
    follow_process_options()


class dispatch_options(Override):
    """Set options, or set them for a ``with`` block.

    Called as a statement it holds from then on in the current thread or async task; as a context
    manager it is undone at the end of the block; as a decorator it holds inside the function.

    Parameters
    ----------
    **values
        ``threads`` (None or a number of at least 1), ``fusion`` (bool), ``defer`` ("auto",
        "always", "never"), ``on_fallback`` ("silent", "log", "warn", "raise"), ``verify`` (share of
        kernels that are checked against NumPy, 0 to 1), ``memory_limit`` (bytes or None),
        ``engine`` ("auto", "blocks", "compiled"), ``compile_vectorize`` (bool), ``backend``.

    Examples
    --------
    >>> import dispatcharr as np
    >>> with np.dispatch_options(fusion=False, threads=1):
    ...     float((np.arange(3.0) * 2).sum())
    6.0
    """

    def __init__(self, **values: Any) -> None:
        if isinstance(values.get("backend", 0), str) and values["backend"] != "auto":
            registry.backend(values["backend"])
        super().__init__(values, "dispatch_options")
        self._standing = False
        super().__enter__()
        self._standing = True

    def __enter__(self) -> dispatch_options:
        if self._standing:
            self._standing = False
        else:
            super().__enter__()
        return self

    def __call__(self, function: _Function) -> _Function:
        if self._standing:
            self._standing = False
            self.__exit__()
        return super().__call__(function)


class record_dispatch:
    """Collect a record of every kernel and fallback inside a ``with`` block.

    Returns
    -------
    Recorder
        With ``table()``, ``summary()``, ``to_dict()``, ``to_json(path)``,
        ``to_chrome_trace(path)``.

    Examples
    --------
    >>> import dispatcharr as np
    >>> with np.record_dispatch() as record:
    ...     total = np.linspace(0.0, 1.0, 10_000_000).sum()
    >>> len(record.records) >= 1
    True
    """

    def __enter__(self) -> Recorder:
        from dispatcharr.explain.recorder import Recorder

        self._recorder = Recorder()
        self._listening = _events.listening(self._recorder)
        self._served = _fastpath.served()
        self._listening.__enter__()
        return self._recorder

    def __exit__(self, *exc: object) -> None:
        self._listening.__exit__(None, None, None)
        self._recorder.small += _fastpath.served() - self._served


def evaluate(*arrays: Any) -> Any:
    """Run what is pending, and wait for devices.

    Parameters
    ----------
    *arrays : array_like
        Arrays to evaluate together; without any, everything that is pending.

    Returns
    -------
    The array, a tuple of the arrays, or None when called without.

    Examples
    --------
    >>> import dispatcharr as np
    >>> x = np.evaluate(np.ones(3) + 1)
    """
    chosen = arrays or tuple(pending_arrays())
    if len(arrays) == 1 and is_array(arrays[0]):
        _fastpath.settled(arrays[0])
        if type(arrays[0]._form) is numpy.ndarray and not places.enabled():
            return arrays[0]
    nodes = [a._value for a in chosen if is_array(a) and type(a._value) is Node]
    engine.evaluate(nodes)
    if places.enabled():
        engine.finish()
    if not arrays:
        return None
    return arrays[0] if len(arrays) == 1 else arrays


def explain(x: Any) -> Explanation:
    """Say what would run, or what ran: where, why, at what price, and what else would have cost.

    Parameters
    ----------
    x : ndarray or callable
        A pending array (the plan and every price), an evaluated one (what happened), or a function
        without arguments (it is run, and what happened is told).

    Returns
    -------
    Explanation
        Prints as text; ``to_dict()`` gives the data.

    Examples
    --------
    >>> import dispatcharr as np
    >>> text = str(np.explain(np.linspace(0.0, 1.0, 2_000_000) * 2))
    """
    from dispatcharr.explain import explanation

    if is_array(x):
        value = x._value
        if type(value) is Node and value.value is None:
            return explanation.explain_pending([value])
        if x._origin is None:
            return explanation.explain_nothing(
                "it is a concrete array that no kernel made: an input, a view, or a result too "
                "small to be planned"
            )
        origin = x._origin
        if type(origin) is tuple:  # what ran again has no record of its own as yet
            settled, seconds = origin
            origin = settled.record(seconds)
        return explanation.explain_record(origin)
    if callable(x):
        with record_dispatch() as record:
            result = x()
            evaluate(*[a for a in (result if isinstance(result, tuple) else (result,))])
        return explanation.explain_records(record.events, small=record.direct)
    raise TypeError(
        f"explain: wanted a dispatcharr array or a function without arguments, got "
        f"{type(x).__name__}; wrap data with asarray, or code with a lambda"
    )


def calibrate(quick: bool = False, progress: Callable[[float, str], None] | None = None) -> Profile:
    """Measure this machine and save what was found, so that prices are this machine's.

    Parameters
    ----------
    quick : bool, default False
        Take at most 2 seconds instead of 20.
    progress : callable, optional
        Called as ``progress(fraction, what)`` while it goes on.

    Returns
    -------
    Profile
        The profile now in force.

    Examples
    --------
    >>> import dispatcharr as np
    >>> np.calibrate(quick=True).source
    'calibrated'
    """
    from dispatcharr.route.calibrate import calibrate as measure

    made = measure(quick=quick, progress=progress)
    profiles.save(made)
    limits.forget()
    return profiles.current()
