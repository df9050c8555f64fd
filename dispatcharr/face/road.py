"""The stations below the face, loaded by the first operation that takes the road.

A program whose arrays are all small never pays for planning and routing, not even their import,
which is most of the package's. The names here stand for the modules; a module is imported when one
of them is first asked for something, by whichever thread is first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispatcharr._forks import imported

__all__ = [
    "contractions", "crew", "cuda_library", "engine", "fuse", "profiles", "registry", "replay",
    "router", "scan_roads", "scans", "verification",
]  # fmt: skip


class _Late:
    """A module that is imported when an attribute is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: Any = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:
            self._module = imported(self._name)
        return getattr(self._module, attribute)

    def __repr__(self) -> str:
        return f"<late module {self._name}>"


if TYPE_CHECKING:
    from dispatcharr import engine, replay
    from dispatcharr.backends import cuda_library, registry
    from dispatcharr.face import scans_table as scan_roads
    from dispatcharr.kernels import crew
    from dispatcharr.plan import fuse
    from dispatcharr.route import contractions, router, scans, verification
    from dispatcharr.route import profile as profiles
else:
    contractions = _Late("dispatcharr.route.contractions")
    crew = _Late("dispatcharr.kernels.crew")
    cuda_library = _Late("dispatcharr.backends.cuda_library")
    engine = _Late("dispatcharr.engine")
    replay = _Late("dispatcharr.replay")
    registry = _Late("dispatcharr.backends.registry")
    fuse = _Late("dispatcharr.plan.fuse")
    profiles = _Late("dispatcharr.route.profile")
    router = _Late("dispatcharr.route.router")
    scan_roads = _Late("dispatcharr.face.scans_table")
    scans = _Late("dispatcharr.route.scans")
    verification = _Late("dispatcharr.route.verification")
