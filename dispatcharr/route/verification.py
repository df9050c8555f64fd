"""Kernels run again on plain NumPy: which are chosen, and what follows from a disagreement.

A kernel in so many is compared with NumPy within what is promised. One that is wrong gives way to
NumPy's answer, its backend is not asked for it again, a warning says so, and a script that shows it
is left in the user's cache folder.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from dispatcharr._errors import VerificationWarning, user_level
from dispatcharr.backends.base import Backend
from dispatcharr.plan.reference import disagreement, same
from dispatcharr.plan.region import Region
from dispatcharr.plan.reproducer import call_of, write_call, write_kernel
from dispatcharr.route import standing
from dispatcharr.storage import places

__all__ = ["agree", "before", "is_due", "tell", "tell_of_call", "tell_of_road", "verify"]

#: Not the program's own generator, whose numbers are the program's.
_random = random.Random()
_Arrays = Sequence[numpy.ndarray]


def is_due(share: float) -> bool:
    """Return whether the next kernel is one of the ``share`` that is checked."""
    return share > 0 and _random.random() < share


def before(inputs: _Arrays, outputs: _Arrays) -> list[numpy.ndarray]:
    """Return the inputs of a kernel about to run, in copies where it overwrites them."""
    found = list(inputs)
    for place, host in enumerate(inputs):
        if any([numpy.may_share_memory(host, output) for output in outputs]):
            places.home(host)
            found[place] = host.copy(order="K")
    return found


def verify(region: Region, inputs: _Arrays, outputs: _Arrays, backend: Backend) -> bool:
    """Compare a kernel that has run with NumPy; return whether they agree.

    Parameters
    ----------
    region : Region
        The kernel.
    inputs : sequence of numpy.ndarray
        What it read: see :func:`before`.
    outputs : sequence of numpy.ndarray
        What it wrote. Where it was wrong, they hold NumPy's answer afterwards.
    backend : Backend
        Who ran it.
    """
    for host in (*inputs, *outputs):
        places.home(host)
    with places.writing(outputs):
        found = disagreement(region, inputs, outputs)
    if found is None:
        return True
    name = f"a kernel ({region.describe()}) of backend {backend.name!r}"
    standing.quarantine(region, backend, inputs, outputs)
    engine = getattr(backend, "engine", "")
    options = f"backend={backend.name!r}, defer='always'"
    if engine:
        options += f", engine={engine!r}"
    about = f"A{name[1:]} disagreed with NumPy: {found.text}."
    kept = write_kernel(region, inputs, found, options, about)
    never = "backend will not be asked for this kernel again"
    tell(f"{name} disagreed with NumPy ({found.text})", never, kept)
    return False


def agree(made: numpy.ndarray, wanted: numpy.ndarray) -> bool:
    """Return whether a result is NumPy's to the bit; any NaN is as good as another."""
    if made.dtype != wanted.dtype or made.shape != wanted.shape:
        return False
    return bool(numpy.all(same(made, wanted)))


def tell_of_call(
    name: str,
    call: str,
    values: _Arrays,
    got: numpy.ndarray,
    wanted: numpy.ndarray,
    whose: str = "kernel",
) -> None:
    """Warn that a compiled call was wrong, and keep it: see ``write_call``."""
    if got.shape == wanted.shape:
        bad = ~same(got, wanted)
        text = f"{int(bad.sum())} of {bad.size} elements"
        got, wanted = got[bad], wanted[bad]
    else:
        text = f"the shape is {got.shape}, not {wanted.shape}"
    about = f"{name} disagreed with NumPy: {text}."
    kept = write_call(call, values, got.ravel()[:1000], wanted.ravel()[:1000], about)
    tell(f"{name} disagreed with NumPy", f"{whose} will not be used again", kept)


def tell_of_road(
    name: str,
    road: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    wrong: Sequence[tuple[numpy.ndarray, numpy.ndarray]],
    several: bool,
) -> None:
    """Warn that kernels answered a call wrongly, and keep it: see ``call_of``.

    ``wrong`` are the results that differ, each with NumPy's; ``several`` says whether the call
    gives a tuple of them.
    """
    call, values = call_of(road, args, kwargs)
    tell_of_call(name, "*" * several + call, values, *wrong[0], "kernels")


def tell(what: str, consequence: str, kept: str) -> None:
    """Warn that something was wrong."""
    warnings.warn(
        f"verify: {what}; NumPy's answer was returned, and the {consequence}. "
        f"Please report it. {kept}",
        VerificationWarning,
        stacklevel=user_level(),
    )
