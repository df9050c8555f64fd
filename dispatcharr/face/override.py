"""Options in force for a ``with`` block or a decorated function, per thread and async task.

While options that concern small operations too are in force anywhere, the fast path is closed. It
is opened again when the last context that had them is left or gone: a thread that ends, a task that
is dropped, a statement that is overruled by another.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from dispatcharr._config import leave, options, override
from dispatcharr.face import _fastpath
from dispatcharr.face.waiting import plans_everything

__all__ = ["Override", "closed_by_options"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def closed_by_options() -> list[Callable[[int], int]]:
    """Return what closes those parts of the fast path that the options in force are not for.

    All of it where they concern small operations too; the tape where they say what may wait.
    """
    chosen, found = options(), []
    if plans_everything(chosen) or chosen.on_fallback != "silent":
        found.append(_fastpath.close)
    if chosen.defer != "auto" or not chosen.fusion or chosen.memory_limit is not None:
        found.append(_fastpath.close_tape)
    return found


class _Closed:
    """Keeps parts of the fast path closed as long as it lives."""

    __slots__ = ("_parts",)

    def __init__(self, parts: list[Callable[[int], int]]) -> None:
        self._parts = parts
        for close in parts:
            close(1)

    def __del__(self) -> None:
        for close in self._parts:
            close(-1)


_closed: ContextVar[_Closed | None] = ContextVar("dispatcharr_closed", default=None)


class Override(ContextDecorator):
    """Puts ``values`` in force; ``where`` is the name that errors give."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._values = values
        self._where = where
        self._entered: list[tuple[Any, Any]] = []

    def _recreate_cm(self) -> Override:
        return Override(self._values, self._where)

    def __enter__(self) -> Override:
        token = override(self._values, self._where)
        parts = closed_by_options()
        closed = _closed.set(_Closed(parts) if parts else None)
        self._entered.append((token, closed))
        return self

    def __exit__(self, *exc: object) -> None:
        token, closed = self._entered.pop()
        leave(token)
        _closed.reset(closed)

    def __call__(self, function: _Function) -> _Function:
        """Return ``function`` with the options in force while its body runs."""
        if inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{self._where}: wanted a function, a coroutine function or a generator function, "
                f"got the asynchronous generator function {function.__name__}; use a with block "
                "inside it"
            )
        if inspect.iscoroutinefunction(function):

            async def wait(*args: Any, **kwargs: Any) -> Any:
                with self._recreate_cm():
                    return await function(*args, **kwargs)

            return cast("_Function", functools.wraps(function)(wait))
        if inspect.isgeneratorfunction(function):

            def generate(*args: Any, **kwargs: Any) -> Any:
                return (yield from self._steps(function(*args, **kwargs)))

            return cast("_Function", functools.wraps(function)(generate))
        return super().__call__(function)

    def _steps(self, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run ``body`` step by step: the options are not those of whoever asks for the steps."""
        step: Callable[[], Any] = functools.partial(body.send, None)
        while True:
            with self._recreate_cm():
                try:
                    item = step()
                except StopIteration as stop:
                    return stop.value
            try:
                step = functools.partial(body.send, (yield item))
            except GeneratorExit:
                with self._recreate_cm():
                    body.close()
                raise
            except BaseException as error:
                step = functools.partial(body.throw, error)
