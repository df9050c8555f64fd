"""Several jobs as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Several"]


class _Job(Protocol):
    count: int

    @property
    def errors(self) -> set[tuple[str, str]]: ...

    def run(self, task: int) -> None: ...

    def finish(self) -> None: ...


class Several:
    """Jobs of several reductions, one after the other, as one.

    Where nothing is computed before it, each is cut in its own way, on which its bits depend.
    """

    __slots__ = ("count", "jobs")

    def __init__(self, jobs: Sequence[_Job]) -> None:
        self.jobs = jobs
        self.count = sum(job.count for job in jobs)

    @property
    def errors(self) -> set[tuple[str, str]]:
        """What all of them met."""
        return set().union(*[job.errors for job in self.jobs])

    def run(self, task: int) -> None:
        """Run one task."""
        for job in self.jobs:
            if task < job.count:
                job.run(task)
                return
            task -= job.count

    def run_all(self, threads: int) -> bool:
        """Return that tasks are run one by one."""
        return False

    def finish(self) -> None:
        """Write the results."""
        for job in self.jobs:
            job.finish()
