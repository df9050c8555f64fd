"""Who wants to know when a library has been imported.

Most libraries are told of our arrays by what they do first to one. jax asks its tables before it
asks the array, and refuses what it does not find there: it has to be told when it arrives.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

__all__ = ["await_module"]


def await_module(name: str, tell: Callable[[], None]) -> None:
    """Call ``tell`` when a module that is not there yet has been imported."""
    sys.meta_path.insert(0, _Awaiting(name, tell))


class _Awaiting:
    """Finds one module, where those behind it find it, and has its loader tell."""

    def __init__(self, name: str, tell: Callable[[], None]) -> None:
        self._name = name
        self._tell: Callable[[], None] | None = tell

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        if name != self._name or self._tell is None:
            return None
        finders = list(sys.meta_path)
        # Who stands before this was asked already, and may itself be asking.
        behind = finders[finders.index(self) + 1 :] if self in finders else []
        for finder in behind:
            find = getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                # A namespace has no loader; one of the old form, without this, cannot tell.
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Telling(spec.loader, self._arrived)
                return spec  # type: ignore[no-any-return]
        return None

    def _arrived(self) -> None:
        tell, self._tell = self._tell, None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if tell is not None:
            tell()


class _Telling:
    """Another loader, which also tells; the module is the other's."""

    def __init__(self, loader: Any, arrived: Callable[[], None]) -> None:
        self._loader = loader
        self._arrived = arrived

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Whoever only looks for the module may ask of what kind its loader is."""
        return type(self._loader)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle as the other loader."""
        return _same, (self._loader,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._arrived()


def _same(loader: Any) -> Any:
    return loader
