"""The profile as a file: written in one step, believed only if it is whole and of this machine.

JSON for people to read. A reader sees the old profile or the new one, never half of one. A file
that lacks a figure, or has one that nobody can have measured, is refused as a whole: half a profile
would compare measured figures with shipped ones.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from dispatcharr.backends.base import Profile
from dispatcharr.route.machine import machine

__all__ = ["SCHEMA", "UnusableProfile", "as_stored", "read", "write"]

SCHEMA = 2
#: Longest file that is read; a full profile has some 10 KB.
_LONGEST = 1 << 22

#: Where figures stand, how deep they are nested, and the smallest and largest believable one.
_FIGURES: Mapping[str, tuple[int, float, float]] = {
    "threads": (0, 1, 1 << 16),
    "block_bytes": (0, 1 << 10, 1 << 30),
    "cache_bytes": (1, 1 << 10, 1 << 40),
    "fault": (1, 0.0, 1e-6),
    "overhead": (1, 0.0, 1.0),
    "bandwidth": (2, 1e6, 1e16),
    "op": (2, 1e-14, 1e-3),
    "compiled": (2, 1e-14, 1e-3),
    "scans": (2, 1e-14, 1e-3),
    "correction": (2, 0.25, 4.0),
}
#: The same of devices; what is not listed is seconds, or a share.
_DEVICE_FIGURES: Mapping[str, tuple[int, float, float]] = {
    "to_device": (0, 1e6, 1e13),
    "to_host": (0, 1e6, 1e13),
    "bandwidth": (1, 1e6, 1e16),
    "op": (2, 1e-15, 1e-3),
}
_CREWS = ("serial", "threads")
#: What a price looks up without asking whether it is there.
_NEEDED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cache_bytes", ("L1", "L2", "L3")),
    ("fault", _CREWS),
    ("overhead", ("record", "plan", "run", "call", "wake", "queue", "compile", "load")),
    ("bandwidth", _CREWS),
    ("op", ("arith",)),
    ("compiled", ("arith",)),
)


class UnusableProfile(ValueError):
    """A stored profile cannot be used; the text says why."""


def read(path: str) -> Profile:
    """Return the profile in the file at ``path``.

    Raises
    ------
    UnusableProfile
        A ValueError that says why it cannot be used.
    OSError
        The file cannot be read.
    """
    # A missing file must be known before json is imported: most users have no profile.
    with open(path, "rb") as file:
        content = file.read(_LONGEST)
    import json

    try:
        data = json.loads(content)
    except ValueError as error:  # also for what is not UTF-8
        raise UnusableProfile(f"it is not JSON ({error})") from None
    except RecursionError:
        raise UnusableProfile("it is nested too deeply") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise UnusableProfile(f"its schema is {found!r}, wanted {SCHEMA}")
    _check_machine(data.get("machine"))
    data.setdefault("scans", {})
    _check_figures(data)
    data.setdefault("devices", {})
    _check_devices(data["devices"])
    names = {field.name for field in fields(Profile)} - {"path"}
    profile = Profile(**{name: data[name] for name in names}, path=path)
    return replace(profile, threads=int(profile.threads), block_bytes=int(profile.block_bytes))


def _check_machine(stored: Any) -> None:
    if not isinstance(stored, dict):
        raise UnusableProfile("it does not say which machine it is of")
    for name, here in machine().items():
        there = stored.get(name)
        if there != here:
            raise UnusableProfile(f"it was measured with {name} {there!r}, here it is {here!r}")


def _check_figures(data: Mapping[str, Any]) -> None:
    """Raise unless everything that a price looks up is there and can be believed."""
    for name in (*_FIGURES, "source"):
        if name not in data:
            raise UnusableProfile(f"{name} is missing")
    if data["source"] not in {"calibrated", "defaults"}:
        raise UnusableProfile(f"source is {data['source']!r}, wanted 'calibrated' or 'defaults'")
    for name, (depth, low, high) in _FIGURES.items():
        _check_bounds(name, data[name], depth, low, high)
    for name, keys in _NEEDED:
        _check_keys(name, data[name], keys)
    for crew in _CREWS:
        levels = (*data["cache_bytes"], "memory")
        _check_keys(f"bandwidth.{crew}", data["bandwidth"][crew], levels)


def _check_devices(devices: Any) -> None:
    """Raise unless what is told of devices can be believed; figures that are missing may be."""
    if not isinstance(devices, dict):
        raise UnusableProfile(f"devices is {devices!r}, wanted an object")
    for uuid, figures in devices.items():
        where = f"devices.{uuid}"
        if not isinstance(figures, dict):
            raise UnusableProfile(f"{where} is {figures!r}, wanted an object")
        for name in ("name", "driver"):
            if not isinstance(figures.get(name), str):
                raise UnusableProfile(f"{where}.{name} is missing")
        for name, value in figures.items():
            if name not in ("name", "driver"):
                depth, low, high = _DEVICE_FIGURES.get(name, (0, 0.0, 10.0))
                _check_bounds(f"{where}.{name}", value, depth, low, high)
        _check_keys(where, figures, ("op",))
        if "bandwidth" in figures:
            _check_keys(f"{where}.bandwidth", figures["bandwidth"], ("L2", "memory"))


def _check_bounds(name: str, value: Any, depth: int, low: float, high: float) -> None:
    if depth:
        if not isinstance(value, dict):
            raise UnusableProfile(f"{name} is {value!r}, wanted an object")
        for key, inner in value.items():
            _check_bounds(f"{name}.{key}", inner, depth - 1, low, high)
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and low <= value <= high):  # nan is not within anything
        raise UnusableProfile(f"{name} is {value!r}, wanted a number from {low:g} to {high:g}")


def _check_keys(name: str, value: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        if key not in value:
            raise UnusableProfile(f"{name}.{key} is missing")


def write(profile: Profile, path: str) -> None:
    """Replace the file at ``path`` by ``profile``, in one step; its folder is made if need be."""
    import json

    data = {"schema": SCHEMA, **_contents(profile)}
    text = json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    draft = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        if os.path.exists(draft):
            os.unlink(draft)
        raise


def as_stored(profile: Profile, path: str | None) -> Profile:
    """Return ``profile`` as a reader of the file at ``path`` will see it."""
    return Profile(**_contents(profile), path=path)


def _contents(profile: Profile) -> dict[str, Any]:
    names = [field.name for field in fields(Profile) if field.name != "path"]
    return {name: _plain(getattr(profile, name)) for name in names}


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it, with the digits that were measured and no more."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}")
    return value
