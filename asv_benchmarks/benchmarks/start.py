"""What importing costs, and that it does not bring in heavy libraries."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numba", "llvmlite", "cupy", "matplotlib", "rich")


class Import:
    """Seconds in a fresh process; the difference of the two is ours."""

    def timeraw_dispatcharr(self) -> str:
        return "import dispatcharr"

    def timeraw_numpy(self) -> str:
        return "import numpy"

    def track_heavy_modules(self) -> int:
        """Return how many of the heavy libraries ``import dispatcharr`` imports."""
        code = f"import sys, dispatcharr; print(len(sys.modules.keys() & set({HEAVY!r})))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return int(found.stdout)

    track_heavy_modules.unit = "modules"  # type: ignore[attr-defined]
