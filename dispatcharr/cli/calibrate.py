"""``dispatcharr calibrate``: measure this machine, say what was found and where it was put."""

from __future__ import annotations

from dataclasses import asdict
from itertools import zip_longest

from dispatcharr.backends.base import Profile
from dispatcharr.cli.console import pairs, print_json, progress_bar, table
from dispatcharr.cli.info import profile_figures
from dispatcharr.explain.text import in_seconds

__all__ = ["calibrate"]


def calibrate(quick: bool, as_json: bool) -> None:
    """Measure, save and print."""
    from dispatcharr.face.context import calibrate

    with progress_bar("calibrate") as progress:
        profile = calibrate(quick=quick, progress=progress)
    if as_json:
        print_json(asdict(profile))
        return
    profile_figures(profile)
    _print_costs(profile)
    where = "nowhere: it holds until the process ends" if profile.path is None else profile.path
    pairs("Saved", [("file", where)])


def _print_costs(profile: Profile) -> None:
    """Print what operations cost, three to a line."""
    costs = [(kind, in_seconds(row["d"])) for kind, row in profile.op.items() if "d" in row]
    height = -(-len(costs) // 3)
    columns = [costs[at : at + height] for at in range(0, len(costs), height)]
    rows = [sum(row, ()) for row in zip_longest(*columns, fillvalue=("", ""))]
    table(["Operation", "per float64", *["", ""] * (len(columns) - 1)], rows)
