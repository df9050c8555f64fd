"""Check a CUDA device: the tests, the calibration, and every figure that is promised of it.

    python benchmarks/gpu_check.py                          everything; within 8 minutes
    python benchmarks/gpu_check.py --only figures           some sections
    python benchmarks/gpu_check.py --only figures --parts overhead "heat equation"
    python benchmarks/gpu_check.py --out results            where JSON, Markdown and logs go
    python benchmarks/gpu_check.py --build                  compile the C accelerators first
    DISPATCHARR_SIM_GPU=1 python benchmarks/gpu_check.py --small    try this program without a GPU

It runs from a checkout; nothing has to be installed. Every part is a process with a time limit of
its own: one that hangs or dies costs its own figures only, and those that it had measured are kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from gpu_rows import Figure, Teller, markdown, read, table

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ("tests", "calibrate", "figures")
#: Parts of the figures, the module that has each, and the most seconds that it may take.
PARTS = {
    "fused kernels": ("gpu_kernels", 60),
    "reductions": ("gpu_kernels", 50),
    "overhead": ("gpu_kernels", 30),
    "transfers": ("gpu_kernels", 30),
    "heat equation": ("gpu_programs", 60),
    "router": ("gpu_programs", 90),
    "expressions": ("gpu_lab", 75),
    "expressions, torch.compile": ("gpu_lab", 120),
}
_TESTS, _CALIBRATION = 200, 45
#: What the package needs and the tests need, by the names under which they are imported.
_NEEDED = ("click", "llvmlite", "numba", "numpy", "platformdirs", "rich", "threadpoolctl")
_FOR_TESTS = ("hypothesis", "pytest", "pytest_timeout", "xdist")
_EXTENSIONS = ("dispatcharr/face/_fastpath", "dispatcharr/storage/_pool")


@dataclass
class Session:
    """One run: where files go, how much time is left, what was found, and where."""

    out: Path
    small: bool
    end: float
    environment: dict[str, str]
    figures: list[Figure]
    here: dict[str, Any]

    def left(self) -> float:
        """Return the seconds left."""
        return self.end - time.monotonic()

    def run(self, name: str, command: list[str], limit: float) -> tuple[int | None, str]:
        """Run a process; return its exit status, None if it was stopped, and what it printed."""
        limit = min(limit, self.left())
        log = self.out / f"{name.replace(' ', '-').replace(',', '')}.log"
        if limit < 5:
            return None, "no time was left"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                status: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                # With all that it started: workers of the tests, compilers.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = None
        return status, log.read_text("utf-8", errors="replace")


def tests(session: Session) -> None:
    """Run the tests that need a device."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-q", "--tb=short"]
    command += ["-p", "no:cacheprovider", "-rfE"]
    if importlib.util.find_spec("xdist") is not None and (os.cpu_count() or 1) > 3:
        command += ["-n", str(min((os.cpu_count() or 1) - 1, 12))]
    start = time.monotonic()
    status, text = session.run("tests", command, _TESTS)
    took = time.monotonic() - start
    lines = text.strip().splitlines() or [""]
    note = lines[-1].strip("= ") if status is not None else f"stopped after {took:.0f} s"
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    figure = Figure(
        "tests", "exit status", status, goal=0, at_least=False, note=note, data={"failed": failed}
    )
    session.figures.append(figure)
    store(session)
    print("\n".join(failed[:40]), note, sep="\n", flush=True)


def calibrate(session: Session) -> None:
    """Calibrate, so that the figures are of this machine's prices."""
    _part(session, "calibration", "gpu_check", _CALIBRATION)


def calibration(tell: Teller) -> None:
    """Measure how long calibrating takes, and tell what it found."""
    import dispatcharr
    from dispatcharr.devices import found
    from dispatcharr.devices.figures import expected
    from dispatcharr.route.device_measures import device_figures

    device = found.device()
    if device is None:
        raise SystemExit(f"gpu_check: no device: {found.why()}")
    device.alloc(256)  # starts it
    start = time.perf_counter()
    device_figures(device)
    took = time.perf_counter() - start
    tell.tell("calibrating the device", took, "s", goal=3.0, at_least=False)
    start = time.perf_counter()
    profile = dispatcharr.calibrate(quick=True)
    tell.tell("calibrating everything, quick", time.perf_counter() - start, "s")
    measured = profile.devices.get(device.props.uuid)
    if measured is None:
        tell.tell("figures of the device in the profile", 0, goal=1, note="there are none")
        return
    print(json.dumps(dict(measured), indent=1, default=str))
    for name, before in _flat(expected(device.props)).items():
        value = _flat(measured).get(name)
        if (value is not None and not name.startswith("op ")) or name in _SHOWN:
            unit, times = ("GB/s", 1e-9) if before > 1e6 else ("us", 1e6)
            if name.startswith("op "):
                unit, times = "ps an element", 1e12
            elif name == "margin":
                unit, times = "", 1.0
            scaled = None if value is None else value * times
            tell.tell(name, scaled, unit, note=f"expected {before * times:.3g}")


#: Costs of operations that are shown.
_SHOWN = ("op exp d", "op exp f", "op sqrt d", "op divide d", "op power d")


def _flat(figures: Any, before: str = "") -> dict[str, float]:
    """Return the numbers of nested mappings by their joined names."""
    found = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name} ")
        elif isinstance(value, (int, float)):
            found[f"{before}{name}"] = float(value)
    return found


def figures(session: Session, parts: list[str]) -> None:
    """Measure the parts."""
    for part in parts:
        module, limit = PARTS[part]
        _part(session, part, module, limit)


def _part(session: Session, part: str, module: str, limit: float) -> None:
    """Measure one part in a process of its own."""
    lines = session.out / f"{part.replace(' ', '-').replace(',', '')}.lines"
    lines.unlink(missing_ok=True)
    limit = min(limit, session.left())
    command = [sys.executable, str(Path(__file__)), "--child", f"{module}:{part}"]
    command += ["--lines", str(lines), "--seconds", f"{limit:.0f}"]
    start = time.monotonic()
    status, text = session.run(part, command + ["--small"] * session.small, limit + 5)
    took = f"{time.monotonic() - start:.0f} s"
    found = read(lines)
    if status != 0:
        last = (text.strip().splitlines() or [""])[-1][:160]
        why = f"stopped after {took}" if status is None else f"exit status {status}: {last}"
        found.append(Figure(part, "FAILED", None, note=why))
    session.figures += found
    store(session)
    print(table(found) + f"\n  ({took})", flush=True)


def child(asked: argparse.Namespace) -> None:
    """Measure one part in this process."""
    module, _, part = asked.child.partition(":")
    tell = Teller(asked.lines, part, asked.seconds, asked.small)
    if module == "gpu_check":
        calibration(tell)
    else:
        importlib.import_module(module).PARTS[part](tell)


def build(session: Session) -> None:
    """Compile the C accelerators beside their sources, for a tree that is not installed."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    code = "import numpy; print(numpy.get_include())"
    include = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    for name in _EXTENSIONS:
        source, target = f"{name}.c", f"{name}_c{suffix}"
        command = ["cc", "-O3", "-shared", "-fPIC", f"-I{sysconfig.get_paths()['include']}"]
        command += [f"-I{include}", "-o", target, source]
        try:
            status, text = session.run(f"build {Path(name).name}", command, 120)
        except OSError as error:
            status, text = 1, str(error)
        print(f"built {target}" if status == 0 else f"not built: {shlex.join(command)}\n{text}")


def surroundings(session: Session) -> dict[str, Any]:
    """Return where this is measured, as a process tells that has the device."""
    missing = [name for name in (*_NEEDED, *_FOR_TESTS) if importlib.util.find_spec(name) is None]
    code = f"import json, sys; sys.path[:0] = {[str(ROOT / 'benchmarks')]!r}; import gpu_check"
    code += "; print(json.dumps(gpu_check.device_facts()))"
    status, text = session.run("device", [sys.executable, "-c", code], 60)
    try:
        facts = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError):
        facts = {"device": f"none (exit status {status}): {text.strip()[-300:]}"}
    return {
        "date": date.today().isoformat(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "missing packages": ", ".join(missing) or "none",
        **facts,
    }


def device_facts() -> dict[str, Any]:
    """Return what there is to know of the device and of the versions."""
    import numpy

    import dispatcharr
    from dispatcharr.devices import found
    from dispatcharr.face import _fastpath

    versions = {"python": platform.python_version(), "numpy": numpy.__version__}
    for name in ("cupy", "torch"):
        if importlib.util.find_spec(name) is not None:
            from importlib.metadata import packages_distributions, version

            owners = packages_distributions().get(name, [])
            versions[name] = version(owners[0]) if owners else "unknown"
    versions["dispatcharr"] = dispatcharr.__version__
    start = time.perf_counter()
    device = found.device()
    if device is not None:
        device.alloc(256)  # starts it
    took = time.perf_counter() - start
    facts = {"C fast path": "compiled" if _fastpath.COMPILED else "Python twin", **versions}
    if device is None:
        return {"device": f"none: {found.why()}", **facts}
    props = device.props
    return {
        "device": props.name, "uuid": props.uuid, "driver": props.driver, "target": props.target,
        "compiler": device.compiler, "memory": props.total_memory,
        "seconds to start the device": round(took, 3), **facts,
    }  # fmt: skip


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where files go; else temporary")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--budget", type=float, default=480, metavar="S", help="seconds in all")
    parser.add_argument("--small", action="store_true", help="tiny sizes: tries the program only")
    parser.add_argument("--build", action="store_true", help="compile the C accelerators first")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60, help=argparse.SUPPRESS)
    return parser.parse_args()


def environment() -> dict[str, str]:
    """Return the environment of the parts: this tree, and one cache for all of them."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    cache = os.environ.get("DISPATCHARR_CACHE_DIR")
    if not cache:  # of its own, and the same for the next run: what was calibrated stays
        cache = str(Path(tempfile.gettempdir()) / "dispatcharr-gpu-check")
    return {
        **os.environ, "PYTHONPATH": path, "DISPATCHARR_CACHE_DIR": cache, "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def store(session: Session) -> None:
    """Write what there is so far as JSON and as a page: who is stopped has what was measured."""
    rows = [figure.to_dict() for figure in session.figures]
    content = {"small": session.small, "machine": session.here, "figures": rows}
    text = json.dumps(content, indent=1, default=str)
    (session.out / "gpu_check.json").write_text(text + "\n", encoding="utf-8")
    told = "\n".join(f"- {name}: {value}" for name, value in session.here.items())
    page = markdown(session.figures, "Figures of a device") + f"\n## Measured on\n\n{told}\n"
    (session.out / "gpu_check.md").write_text(page, encoding="utf-8")


def main() -> None:
    """Run the sections, print and store what they found."""
    asked = arguments()
    if asked.child:
        child(asked)
        return
    sections = asked.only.split(",")
    unknown = set(sections) - set(SECTIONS)
    if unknown:
        raise SystemExit(f"gpu_check: no section {', '.join(unknown)}; {', '.join(SECTIONS)}")
    out = (asked.out or Path(tempfile.mkdtemp(prefix="gpu-check-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + asked.budget
    session = Session(out, asked.small, end, environment(), [], {})
    if asked.build:
        build(session)
    session.here = surroundings(session)
    print(*(f"{name}: {value}" for name, value in session.here.items()), sep="\n", flush=True)
    if "tests" in sections:
        tests(session)
    if "calibrate" in sections:
        calibrate(session)
    if "figures" in sections:
        figures(session, asked.parts)
    goals = [figure for figure in session.figures if figure.goal is not None]
    print("\n=== with a goal ===", table(goals), sep="\n")
    print(f"\nstored in {out}; {asked.budget - session.left():.0f} s")


if __name__ == "__main__":
    main()
