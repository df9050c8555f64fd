"""The stations below the face, loaded by the first operation that takes the road.

A program whose arrays are all small never pays for planning and routing, not even their import,
which is most of the package's. The names here stand for the modules; a module is imported when one
of them is first asked for something, by whichever thread is first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["contractions", "cuda_library", "engine", "fuse", "profiles", "registry", "router"]


class _Late:
    """A module that is imported when an attribute is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)

    def __repr__(self) -> str:
        return f"<late module {self._name}>"


if TYPE_CHECKING:
    from dispatcharr import engine
    from dispatcharr.backends import cuda_library, registry
    from dispatcharr.plan import fuse
    from dispatcharr.route import contractions, router
    from dispatcharr.route import profile as profiles
else:
    contractions = _Late("dispatcharr.route.contractions")
    cuda_library = _Late("dispatcharr.backends.cuda_library")
    engine = _Late("dispatcharr.engine")
    registry = _Late("dispatcharr.backends.registry")
    fuse = _Late("dispatcharr.plan.fuse")
    profiles = _Late("dispatcharr.route.profile")
    router = _Late("dispatcharr.route.router")
