"""What a run of the laboratory found: values, and the figures derived from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from dispatcharr.bench.ours import AUTO, DIRECT
from dispatcharr.bench.roof import Roof
from dispatcharr.bench.turns import Turns
from dispatcharr.explain.text import plural

__all__ = ["NUMPY", "SCHEMA", "Cell", "Report", "in_size", "quantile"]

SCHEMA = "dispatcharr.bench/1"
#: Name of the contender that all others are compared with.
NUMPY = "NumPy"
#: Name of the loop that only moves bytes, which takes turns with the contenders.
ROOF = "roof"


@dataclass(frozen=True)
class Cell:
    """One expression on one size.

    Attributes
    ----------
    expression, title : str
        Its name and how it is shown.
    size : int
        As asked for.
    shape : tuple of int
        Of the operands.
    elements : int
        Of one operand.
    nbytes : int
        What must move at the least: operands read once, the result written once.
    operations : int
        Nominal arithmetic in all.
    turns : Turns
        The times of those whose answers are right.
    forced : tuple of str
        Names of the forced backends and engines among them.
    chosen : str
        Where the automatic path ran it.
    predicted : float or None
        Seconds predicted for that.
    wrong : mapping of str to str
        Contenders whose answers are not NumPy's, and how far off.
    unable : mapping of str to str
        Contenders that could not compute it, and why.
    notes : mapping of str to str
        Contenders whose answer is right but of another type.
    first : mapping of str to float
        Seconds of each one's first run, compilation included.
    others : float or None
        Cores that other processes used meanwhile.
    roof_bytes : int
        What the loop called :data:`ROOF` moves, where that is among those timed.
    """

    expression: str
    title: str
    size: int
    shape: tuple[int, ...]
    elements: int
    nbytes: int
    operations: int
    turns: Turns
    forced: tuple[str, ...]
    chosen: str
    predicted: float | None
    wrong: Mapping[str, str] = field(default_factory=dict)
    unable: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    first: Mapping[str, float] = field(default_factory=dict)
    others: float | None = None
    roof_bytes: int = 0

    @property
    def intensity(self) -> float:
        """Nominal operations per byte."""
        return self.operations / self.nbytes

    def fastest(self, names: Sequence[str]) -> str:
        """Return who of these took the least time."""
        return min((name for name in names if name in self.turns.names), key=self.turns.typical)

    def speed_up(self, name: str) -> float | None:
        """Return how many times faster than NumPy a contender is; None where it was not timed."""
        return self.turns.ratio(NUMPY, name) if name in self.turns.names else None

    def bandwidth(self, name: str) -> float:
        """Return bytes per second of a contender, those counted that must move."""
        return self.nbytes / self.turns.typical(name)

    @property
    def best_forced(self) -> str | None:
        """The fastest of the forced backends and engines."""
        return min(self.forced, key=self.turns.typical, default=None)

    @property
    def regret(self) -> float | None:
        """The automatic path's time over that of the best forced one.

        None where it planned nothing: what it ran then is no choice among those.
        """
        if AUTO not in self.turns.names or not self.forced or self.chosen == DIRECT:
            return None
        return self.turns.regret(AUTO, self.forced)

    @property
    def regret_over_all(self) -> float | None:
        """The same over the best of the forced ones and NumPy."""
        if AUTO not in self.turns.names:
            return None
        return self.turns.regret(AUTO, (*self.forced, NUMPY))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        names = self.turns.names
        return {
            "expression": self.expression,
            "title": self.title,
            "size": self.size,
            "shape": list(self.shape),
            "elements": self.elements,
            "bytes": self.nbytes,
            "operations": self.operations,
            "intensity": self.intensity,
            "seconds": {name: self.turns.typical(name) for name in names},
            "spread": {name: _quartiles(self.turns.column(name)) for name in names},
            "speed_up": {name: self.speed_up(name) for name in names},
            "bytes_per_second": {name: self.bandwidth(name) for name in names},
            "rounds": len(self.turns.rounds),
            "chosen": self.chosen,
            "best_forced": self.best_forced,
            "regret": self.regret,
            "regret_over_all": self.regret_over_all,
            "predicted": self.predicted,
            "wrong": dict(self.wrong),
            "unable": dict(self.unable),
            "notes": dict(self.notes),
            "first_run": dict(self.first),
            "others": self.others,
        }


def _quartiles(times: Sequence[float]) -> list[float]:
    return [quantile(times, share) for share in (0.25, 0.75)]


def quantile(figures: Sequence[float], share: float) -> float:
    """Return a quantile of figures; nan of none."""
    return float(numpy.quantile(numpy.array(figures), share)) if len(figures) else math.nan


def _summed_up(regrets: Sequence[float]) -> dict[str, Any]:
    there = bool(regrets)
    return {
        "cells": len(regrets),
        "median": quantile(regrets, 0.5) if there else None,
        "95th_percentile": quantile(regrets, 0.95) if there else None,
        "worst": max(regrets) if there else None,
    }


def in_size(size: int) -> str:
    """Return a number of elements in few characters.

    Examples
    --------
    >>> in_size(1000), in_size(4_000_000), in_size(1234)
    ('1e3', '4e6', '1234')
    """
    digits = f"{size}".rstrip("0")
    zeros = len(f"{size}") - len(digits)
    return f"{digits}e{zeros}" if zeros > 2 else f"{size}"


@dataclass(frozen=True)
class Report:
    """A whole run.

    Attributes
    ----------
    date : str
        When, in ISO form.
    dtype : str
        Of the operands.
    cells : list of Cell
        In the order of measuring.
    contenders : tuple of str
        NumPy, the automatic path, and the peers that are installed: the columns of the tables.
    forced : tuple of str
        Backends and engines that were forced.
    missing : mapping of str to str
        Peers that are not here, with the reason.
    how : mapping of str to str
        How each peer is used.
    roof : Roof
        The bounds of the machine.
    machine, versions : mapping
        Where it ran, and on what.
    seconds : float
        How long it took in all.
    others : float or None
        Cores that other processes used meanwhile.
    """

    date: str
    dtype: str
    cells: list[Cell]
    contenders: tuple[str, ...]
    forced: tuple[str, ...]
    missing: Mapping[str, str]
    how: Mapping[str, str]
    roof: Roof
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    seconds: float
    others: float | None

    @property
    def sizes(self) -> list[int]:
        """Sizes measured, the smallest first."""
        return sorted({cell.size for cell in self.cells})

    @property
    def regrets(self) -> list[float]:
        """Regrets of the cells that have one: those in which something was planned."""
        return [cell.regret for cell in self.cells if cell.regret is not None]

    @property
    def regrets_over_all(self) -> list[float]:
        """Regrets with NumPy among the alternatives."""
        found = [cell.regret_over_all for cell in self.cells]
        return [regret for regret in found if regret is not None]

    @property
    def ours_wrong(self) -> list[tuple[Cell, str, str]]:
        """Cells, contenders of ours that are wrong or fail there, and how."""
        ours = {AUTO, *self.forced}
        return [
            (cell, name, how)
            for cell in self.cells
            for name, how in cell.wrong.items()
            if name in ours
        ]

    def at(self, size: int) -> list[Cell]:
        """Return the cells of one size."""
        return [cell for cell in self.cells if cell.size == size]

    @property
    def with_forced(self) -> tuple[str, ...]:
        """The columns of the tables, and after the automatic path those that were forced."""
        return (*self.contenders[:2], *self.forced, *self.contenders[2:])

    @property
    def regret_sentence(self) -> str:
        """Median, 95th percentile and worst of the regret, in words."""
        told = []
        for what, regrets in (
            ("the best forced backend and engine", self.regrets),
            ("the best of these and plain NumPy", self.regrets_over_all),
        ):
            if regrets:
                median, high = quantile(regrets, 0.5), quantile(regrets, 0.95)
                told.append(
                    f"{what}: median {median:.2f}, 95th percentile {high:.2f}, "
                    f"worst {max(regrets):.2f}, of {plural(len(regrets), 'cell')}"
                )
        return "; over that of ".join(told) or "nothing else, since nothing was planned"

    def roof_share(self, cell: Cell, name: str) -> float:
        """Return a contender's bandwidth as a fraction of the roof, in turns if they took any."""
        if cell.roof_bytes:
            return cell.turns.ratio(ROOF, name) * cell.nbytes / cell.roof_bytes
        return cell.bandwidth(name) / self.roof.bandwidth

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "schema": SCHEMA,
            "date": self.date,
            "seconds": self.seconds,
            "others": self.others,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "dtype": self.dtype,
            "contenders": list(self.contenders),
            "forced": list(self.forced),
            "missing": dict(self.missing),
            "how": dict(self.how),
            "roof": {
                "bytes_per_second": dict(self.roof.bytes_per_second),
                "operations_per_second": dict(self.roof.operations_per_second),
                "bandwidth": self.roof.bandwidth,
                "threads": self.roof.threads,
                "how": self.roof.how,
            },
            "regret": _summed_up(self.regrets),
            "regret_over_all": _summed_up(self.regrets_over_all),
            "cells": [
                {**cell.to_dict(), "roof_share": {
                    name: self.roof_share(cell, name) for name in cell.turns.names
                }}
                for cell in self.cells
            ],
        }  # fmt: skip
