"""What was decided on one kernel: every price, every refusal, and the reason as a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcharr.route.price import Estimate

__all__ = ["UNBUILT", "Decision"]

#: Said of a backend that could run a kernel once it has been built.
UNBUILT = "its kernel is not compiled yet"


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen backend, what the others would have cost, and why.

    Attributes
    ----------
    backend : str
        Name of the chosen backend.
    estimates : tuple of Estimate
        Of every backend that could run the kernel, with its cheapest engine; the cheapest first.
    refused : tuple of (str, str)
        The other backends, each with its reason; also those whose kernel is not compiled yet.
    forced : str or None
        Name of the backend that was asked for.
    measured : float or None
        Seconds that ``Backend.run`` took, once it has.
    engines : tuple of (str, str)
        Engines that cannot run it, of backends that have others, each with its reason.
    better : Estimate or None
        Of a kernel that would be cheaper still and is not built yet; ``run`` is what it would take
        then.
    note : str
        Why it is not the cheapest one, where data is to be moved, or is not.
    failed : tuple of (str, str)
        Labels of backends that were tried just before, each with what happened.
    """

    backend: str
    estimates: tuple[Estimate, ...]
    refused: tuple[tuple[str, str], ...]
    forced: str | None = None
    measured: float | None = None
    engines: tuple[tuple[str, str], ...] = ()
    better: Estimate | None = None
    note: str = ""
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def reason(self) -> str:
        """Why this backend, as a sentence."""
        if self.forced == self.backend:
            return f"forced by use_backend({self.forced!r})"
        found = ", ".join([str(estimate) for estimate in self.estimates])
        reason = f"cheapest of {len(self.estimates)}: {found}"
        if self.note:
            reason = f"{self.note}: {found}"
        if len(self.estimates) == 1:
            reason = f"the only one that can: {found}"
        for name, why in reversed(self.failed):
            reason = f"{name!r} was tried first, and {why}; {reason}"
        if self.forced is None:
            return reason
        return f"{self.forced!r} was asked for and refused ({self._refusal()}); {reason}"

    def _refusal(self) -> str:
        """Return why the backend that was asked for does not run it, whichever engine it has."""
        own = [(name, why) for name, why in self.engines if name.split("/")[0] == self.forced]
        return (
            dict(self.refused).get(self.forced or "")
            or "; ".join([f"{name}: {why}" for name, why in own])
            or UNBUILT
        )

    @property
    def estimate(self) -> Estimate:
        """The estimate of the chosen backend."""
        return next(found for found in self.estimates if found.backend == self.backend)

    @property
    def predicted(self) -> float:
        """Seconds predicted for what ``measured`` measures: the run, without moves."""
        return self.estimate.run

    @property
    def expected(self) -> float:
        """Seconds predicted for everything, which is what the backends were compared by."""
        return self.estimate.seconds
