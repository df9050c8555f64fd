"""The stations below the face, loaded by the first operation that takes the road.

A program whose arrays are all small never pays for planning and routing, not even their import,
which is most of the package's. The names here stand for the modules; a module is imported when one
of them is first asked for something, by whichever thread is first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcharr._forks import Late

__all__ = [
    "build", "contractions", "crew", "cuda_library", "engine", "fuse", "profiles", "registry",
    "replay", "router", "scan_roads", "scans", "verification",
]  # fmt: skip


if TYPE_CHECKING:
    from dispatcharr import engine, replay
    from dispatcharr.backends import cuda_library, registry
    from dispatcharr.face import scans_table as scan_roads
    from dispatcharr.kernels import build, crew
    from dispatcharr.plan import fuse
    from dispatcharr.route import contractions, router, scans, verification
    from dispatcharr.route import profile as profiles
else:
    build = Late("dispatcharr.kernels.build")
    contractions = Late("dispatcharr.route.contractions")
    crew = Late("dispatcharr.kernels.crew")
    cuda_library = Late("dispatcharr.backends.cuda_library")
    engine = Late("dispatcharr.engine")
    replay = Late("dispatcharr.replay")
    registry = Late("dispatcharr.backends.registry")
    fuse = Late("dispatcharr.plan.fuse")
    profiles = Late("dispatcharr.route.profile")
    router = Late("dispatcharr.route.router")
    scan_roads = Late("dispatcharr.face.scans_table")
    scans = Late("dispatcharr.route.scans")
    verification = Late("dispatcharr.route.verification")
