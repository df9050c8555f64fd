"""``dispatcharr info``: the machine, the backends and the settings in force, as data or as text."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy

from dispatcharr._config import ENVIRONMENT, cache_folder, variable
from dispatcharr._version import __version__
from dispatcharr.backends.base import Profile
from dispatcharr.cli.console import in_binary, pairs, print_json, table
from dispatcharr.explain.text import in_seconds, plural
from dispatcharr.storage.pool import get_default_memory_pool

__all__ = ["free_memory", "info", "profile_figures"]


def info(as_json: bool) -> None:
    """Print what there is to know about dispatcharr here."""
    facts = _facts()
    if as_json:
        print_json(facts)
    else:
        _print(facts)


def _facts() -> dict[str, Any]:
    from dispatcharr.backends.registry import available
    from dispatcharr.devices import found
    from dispatcharr.kernels import native
    from dispatcharr.kernels.cpus import cgroup_quota, cpu_count, thread_count
    from dispatcharr.route.profile import load, machine, profile_path

    profile, device = load(), found.device()
    path = profile_path()
    return {
        "versions": {
            "dispatcharr": __version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "cpu": machine()["cpu"],
            "platform": machine()["platform"],
            "cpus": os.cpu_count(),
            "cpus_usable": cpu_count(),
            "cpu_quota": cgroup_quota(),
            "threads": thread_count(),
            "cache_bytes": dict(profile.cache_bytes),
            "memory_bytes": total_memory(),
        },
        "backends": dict(available()),
        "device": None if device is None else asdict(device.props),
        "engines": {"blocks": None, "compiled": native.missing()},
        "kernels": dict(zip(("count", "bytes", "limit"), _kernels(), strict=True)),
        "memory_pool": get_default_memory_pool().get_limit(),
        "profile": {**asdict(profile), "path": path, "stored": os.path.exists(path)},
        "environment": _environment(),
        "cache_folder": cache_folder(),
    }


def _kernels() -> tuple[int, int, int]:
    """Return number and bytes of the kernels on disk, and the most bytes that they may take."""
    from dispatcharr.kernels.cache import user_cache

    cache = user_cache()
    return (*cache.contents(), cache.limit)


def _environment() -> dict[str, str]:
    return {name: value for name in ENVIRONMENT if (value := variable(name))}


def total_memory() -> int | None:
    """Return the machine's memory in bytes, None where the system does not tell in this way."""
    return _pages("SC_PHYS_PAGES")


def free_memory() -> int | None:
    """Return the bytes of memory that a program can still get, None where it is not known."""
    for line in _first_lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _pages("SC_AVPHYS_PAGES")


def _pages(name: str) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(name)
    except (OSError, ValueError):
        return None


def _first_lines(path: str) -> list[str]:
    from dispatcharr.route.defaults import read_head

    return read_head(path).splitlines()


def _print(facts: Mapping[str, Any]) -> None:
    machine, profile = facts["machine"], facts["profile"]
    pairs("Versions", facts["versions"].items())
    pairs("Machine", _machine_rows(machine))
    pairs(
        "Backends",
        ((name, why or "available") for name, why in facts["backends"].items()),
    )
    device = facts["device"]
    if device is not None:
        memory = in_binary(device["total_memory"])
        pairs("Device", [(device["name"], f"{memory}, CUDA {device['driver']}")])
    pairs("Engines", _engine_rows(facts))
    stored = profile["stored"]
    source = {
        "calibrated": "measured on this machine",
        "defaults": "shipped defaults; run `dispatcharr calibrate` to measure this machine",
    }
    pairs(
        "Profile",
        [
            ("source", source[profile["source"]]),
            ("file", profile["path"] if stored else f"{profile['path']} (not there yet)"),
            ("cache folder", facts["cache_folder"]),
        ],
    )
    fields = {name: value for name, value in profile.items() if name != "stored"}
    profile_figures(Profile(**fields))
    unset = [("none of them", ", ".join(ENVIRONMENT))]
    pairs("Environment variables", list(facts["environment"].items()) or unset)


def _engine_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, why in facts["engines"].items():
        yield name, why or "available"
    kernels = facts["kernels"]
    held = f"{plural(kernels['count'], 'kernel')}, {in_binary(kernels['bytes'])}"
    yield "kernels on disk", f"{held} of at most {in_binary(kernels['limit'])}"
    pool = facts["memory_pool"]
    yield "memory pool", f"keeps at most {in_binary(pool)}" if pool else "none on this machine"


def _machine_rows(machine: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "CPU", machine["cpu"]
    yield "platform", machine["platform"]
    usable = f"{machine['cpus_usable']} of {machine['cpus']} may be used"
    quota = machine["cpu_quota"]
    yield "CPUs", usable if quota is None else f"{usable}, with a quota of {quota:g}"
    yield "threads", f"{machine['threads']}"
    caches = machine["cache_bytes"].items()
    yield "caches", ", ".join(f"{level} {in_binary(size)}" for level, size in caches)
    if machine["memory_bytes"] is not None:
        yield "memory", in_binary(machine["memory_bytes"])


def profile_figures(profile: Profile) -> None:
    """Print the figures of a profile that decide most."""
    alone, everyone = profile.bandwidth["serial"], profile.bandwidth["threads"]
    rows = [
        (f"{level}, GB/s", *(f"{crew[level] / 1e9:.3g}" for crew in (alone, everyone)))
        for level in alone
    ]
    fresh = (in_seconds(profile.fault[crew] * 1e6) for crew in ("serial", "threads"))
    rows.append(("fresh memory, per MB", *fresh))
    threads = plural(profile.threads, "thread")
    table(["Bandwidth", "one thread", threads], rows)
    pairs("Overhead", _overheads(profile))


def _overheads(profile: Profile) -> Iterator[tuple[str, str]]:
    for name, seconds in profile.overhead.items():
        yield _OVERHEADS.get(name, name), in_seconds(seconds)


_OVERHEADS = {
    "record": "record an operation",
    "plan": "plan a kernel",
    "replay": "repeat a statement",
    "run": "run a kernel",
    "compile": "compile a kernel",
    "load": "load a compiled kernel",
    "call": "call NumPy on a block",
    "wake": "wake the threads",
    "crew": "wake them for a compiled kernel",
    "queue": "queue for the interpreter",
}
