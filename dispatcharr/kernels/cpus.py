"""How many CPUs this process may really use.

The machine's CPUs are the upper bound; the affinity mask and the CPU quota of the control groups
that a container or batch system put the process into lower it. A quota of 1.5 CPUs counts as 2: a
thread too many costs less than half a CPU unused. What cannot be read is taken as no limit: a
system without ``/proc`` has no control groups. ``DISPATCHARR_NUM_THREADS`` overrules all of it.
"""

from __future__ import annotations

import math
import os

from dispatcharr._config import variable
from dispatcharr._errors import OptionError

__all__ = ["cgroup_quota", "cpu_count", "thread_count"]

_VARIABLE = "DISPATCHARR_NUM_THREADS"


def thread_count() -> int:
    """Return the number of threads to use: ``DISPATCHARR_NUM_THREADS``, else :func:`cpu_count`.

    An empty value counts as not set.

    Raises
    ------
    OptionError
        A ValueError: the variable is not a whole number of at least 1.

    Examples
    --------
    >>> thread_count() >= 1
    True
    """
    text = variable(_VARIABLE)  # now, so that a bad value cannot break the import
    if not text:
        return cpu_count()
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise OptionError(
            f"thread_count: {_VARIABLE} must be a whole number of at least 1, got {text[:40]!r}; "
            f"set it to a number of threads, or unset it to use the {cpu_count()} CPUs granted here"
        )
    return count


def cpu_count(root: str = "/") -> int:
    """Return the number of CPUs that this process may use, at least 1.

    Parameters
    ----------
    root : str
        Where the file system with ``proc`` and ``sys`` begins; tests put theirs elsewhere.

    Examples
    --------
    >>> cpu_count() >= 1
    True
    """
    count = _schedulable()
    quota = cgroup_quota(root)
    if quota is not None:
        count = min(count, math.ceil(quota))
    return max(count, 1)


def _schedulable() -> int:
    # From Python 3.13 on this knows the affinity mask and the user's PYTHON_CPU_COUNT.
    process_cpu_count = getattr(os, "process_cpu_count", None)
    if process_cpu_count is not None:
        return process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        try:
            return len(os.sched_getaffinity(0))
        except OSError:  # a sandbox may forbid the question
            return os.cpu_count() or 1
    return os.cpu_count() or 1


def cgroup_quota(root: str = "/") -> float | None:
    """Return the CPUs' worth of time that control groups grant this process, None for no limit.

    A group's limit binds the groups below it, so the tightest counts, from the process's own group
    up to the top. Version 1 and version 2 hierarchies may be mounted side by side; both are asked.
    """
    memberships = _read(root, "/proc/self/cgroup").splitlines()
    mounts = _read(root, "/proc/self/mountinfo").splitlines()
    quotas: list[float] = []
    for membership in memberships:
        # hierarchy:controllers:path; version 2 is hierarchy 0 with no controllers named.
        hierarchy, _, rest = membership.partition(":")
        controllers, _, path = rest.partition(":")
        version2 = hierarchy == "0" and not controllers
        if not version2 and "cpu" not in controllers.split(","):
            continue
        for mount_root, mount_point in _mounted(mounts, version2):
            for folder in _folders(path, mount_root, mount_point):
                quota = _quota_version2(root, folder) if version2 else _quota_version1(root, folder)
                if quota is not None:
                    quotas.append(quota)
    return min(quotas, default=None)


def _read(root: str, path: str) -> str:
    """Return a small system file's text, or nothing where it does not exist or may not be read."""
    try:
        with open(os.path.join(root, path.lstrip("/")), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _mounted(mounts: list[str], version2: bool) -> list[tuple[str, str]]:
    """Return, for each mount of the CPU hierarchy, the group at its top and where it is mounted."""
    found = []
    for mount in mounts:
        # id parent device root point options [tags ...] - type source options (see proc(5))
        before, dash, after = mount.partition(" - ")
        left, right = before.split(), after.split()
        if not dash or len(left) < 5 or not right:
            continue
        if version2:
            wanted = right[0] == "cgroup2"
        else:
            wanted = right[0] == "cgroup" and "cpu" in right[-1].split(",")
        if wanted:
            found.append((left[3].replace("\\040", " "), left[4].replace("\\040", " ")))
    return found


def _folders(path: str, mount_root: str, mount_point: str) -> list[str]:
    """Return the folders of the group at ``path`` and of those above it, up to the mount point."""
    if mount_root != "/" and (path == mount_root or path.startswith(mount_root + "/")):
        path = path[len(mount_root) :]  # the container sees only its own part of the hierarchy
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # the group lies outside what is mounted here: only the top can be asked
        parts = []
    return ["/".join([mount_point, *parts[:depth]]) for depth in range(len(parts), -1, -1)]


def _quota_version2(root: str, folder: str) -> float | None:
    words = _read(root, f"{folder}/cpu.max").split()
    if not words:
        return None
    period = words[1] if len(words) > 1 else "100000"  # the kernel's own default
    return _ratio(words[0], period)


def _quota_version1(root: str, folder: str) -> float | None:
    quota = _read(root, f"{folder}/cpu.cfs_quota_us").strip()
    return _ratio(quota, _read(root, f"{folder}/cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """Return quota / period; None for ``max``, -1 and anything that is not a pair of numbers."""
    if not (quota.isdecimal() and period.isdecimal()):
        return None
    microseconds = int(period)
    return int(quota) / microseconds if microseconds and int(quota) else None
