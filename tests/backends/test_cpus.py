"""How many CPUs and threads are counted, on made-up systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dispatcharr.kernels.cpus import cgroup_quota, cpu_count, thread_count

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
OTHER_MOUNTS = (
    "23 28 0:22 / /sys rw,nosuid - sysfs sysfs rw\n"
    "34 25 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V1_FOLDER = "sys/fs/cgroup/cpu,cpuacct"


def system(root: Path, membership: str, mounts: str, files: dict[str, str]) -> str:
    """Lay out a file system with one process; return its root."""
    proc = {"proc/self/cgroup": membership, "proc/self/mountinfo": OTHER_MOUNTS + mounts}
    for name, text in (proc | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def granted(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    """Pretend that the affinity mask grants so many CPUs."""
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("150000 100000\n", 1.5),
        ("50000 200000\n", 0.25),
        ("400000\n", 4.0),
        ("max 100000\n", None),
        ("", None),
        ("what 100000\n", None),
        ("100000 0\n", None),
    ],
)
def test_version_2_quota_is_read(tmp_path: Path, text: str, quota: float | None) -> None:
    files = {"sys/fs/cgroup/cpu.max": text}
    assert cgroup_quota(system(tmp_path, "0::/\n", V2_MOUNT, files)) == quota


@pytest.mark.parametrize(
    ("quota_us", "period_us", "quota"),
    [("250000\n", "100000\n", 2.5), ("-1\n", "100000\n", None), ("100000\n", "", None)],
)
def test_version_1_quota_is_read(
    tmp_path: Path, quota_us: str, period_us: str, quota: float | None
) -> None:
    files = {f"{V1_FOLDER}/cpu.cfs_quota_us": quota_us, f"{V1_FOLDER}/cpu.cfs_period_us": period_us}
    membership = "5:cpuset:/\n4:cpu,cpuacct:/\n"
    assert cgroup_quota(system(tmp_path, membership, V1_MOUNT, files)) == quota


def test_tightest_group_from_own_to_top_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu.max": "max 100000",
        "sys/fs/cgroup/batch/cpu.max": "200000 100000",
        "sys/fs/cgroup/batch/job/cpu.max": "800000 100000",
        "sys/fs/cgroup/elsewhere/cpu.max": "10000 100000",
    }
    assert cgroup_quota(system(tmp_path, "0::/batch/job\n", V2_MOUNT, files)) == 2.0


def test_group_named_from_the_host_is_found_inside_a_container(tmp_path: Path) -> None:
    mount = V1_MOUNT.replace(" / /sys", " /docker/abc /sys")
    files = {
        f"{V1_FOLDER}/cpu.cfs_quota_us": "900000",
        f"{V1_FOLDER}/cpu.cfs_period_us": "100000",
        f"{V1_FOLDER}/inner/cpu.cfs_quota_us": "300000",
        f"{V1_FOLDER}/inner/cpu.cfs_period_us": "100000",
    }
    membership = "4:cpu,cpuacct:/docker/abc/inner\n"
    assert cgroup_quota(system(tmp_path, membership, mount, files)) == 3.0


def test_group_outside_of_what_is_mounted_asks_the_top(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "300000 100000", "sys/fs/cpu.max": "100000 100000"}
    assert cgroup_quota(system(tmp_path, "0::/../other\n", V2_MOUNT, files)) == 3.0


def test_both_versions_side_by_side_are_asked(tmp_path: Path) -> None:
    mounts = V1_MOUNT + V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files = {
        f"{V1_FOLDER}/slice/cpu.cfs_quota_us": "500000",
        f"{V1_FOLDER}/slice/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/unified/user/cpu.max": "600000 100000",
    }
    membership = "4:cpu,cpuacct:/slice\n0::/user\n"
    assert cgroup_quota(system(tmp_path, membership, mounts, files)) == 5.0


@pytest.mark.parametrize(
    ("membership", "mounts"),
    [("", ""), ("nonsense\n\n::\n", "nonsense\n - \na b - c\n"), ("0::/\n", ""), ("", V2_MOUNT)],
)
def test_unreadable_system_has_no_quota(tmp_path: Path, membership: str, mounts: str) -> None:
    assert cgroup_quota(system(tmp_path, membership, mounts, {})) is None


def test_system_without_proc_has_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("limit", "count"),
    [("150000 100000", 2), ("10000 100000", 1), ("6400000 100000", 8), ("max 100000", 8)],
)
def test_quota_rounds_up_and_never_exceeds_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, count: int
) -> None:
    granted(monkeypatch, 8)
    root = system(tmp_path, "0::/\n", V2_MOUNT, {"sys/fs/cgroup/cpu.max": limit})
    assert cpu_count(root) == count


def test_affinity_lowers_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    granted(monkeypatch, 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cpu_count(str(tmp_path)) == 3


def test_newer_python_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    granted(monkeypatch, 3)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert cpu_count(str(tmp_path)) == 5


def test_forbidden_affinity_leaves_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(pid: int) -> set[int]:
        raise PermissionError

    granted(monkeypatch, 1)
    monkeypatch.setattr(os, "sched_getaffinity", forbidden, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu_count(str(tmp_path)) == 6


def test_system_without_affinity_and_count_has_one_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_count(str(tmp_path)) == 1


def test_this_machine_has_a_cpu() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)


def test_variable_overrules_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHARR_NUM_THREADS", " 37 ")
    assert thread_count() == 37


@pytest.mark.parametrize("text", [None, "", "  "])
def test_unset_variable_leaves_the_machine(
    monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is None:
        monkeypatch.delenv("DISPATCHARR_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("DISPATCHARR_NUM_THREADS", text)
    assert thread_count() == cpu_count()


@pytest.mark.parametrize("text", ["abc", "0", "-1", "2.5", "1e3", "2 4", "9" * 5000])
def test_impossible_variable_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DISPATCHARR_NUM_THREADS", text)
    with pytest.raises(ValueError, match="DISPATCHARR_NUM_THREADS") as caught:
        thread_count()
    message = str(caught.value)
    assert "a whole number of at least 1" in message
    assert repr(text[:40]) in message
    assert "unset it" in message
    assert len(message) < 300
