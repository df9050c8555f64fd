"""Heat in a square copper plate, by explicit Euler steps on a five-point stencil.

The rim is held at zero and the plate starts in one sine mode. A sine mode is an eigenvector of the
discrete step, so that each step multiplies it by a known factor: the answer is checked
against that factor to rounding, and against the exponential decay of the differential equation
to the accuracy of the grid.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import numpy as np

SIDE = 1.0  # metres
DIFFUSIVITY = 1.11e-4  # of copper, square metres per second
COURANT = 0.2  # diffusivity * time step / spacing**2; stable up to 0.25


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2000, help="grid points along a side")
    parser.add_argument("--steps", type=int, default=100, help="time steps")
    parser.add_argument("--repeat", type=int, default=3, help="how often to time the steps")
    options = parser.parse_args()
    if options.size < 50 or options.steps < 1 or options.repeat < 1:
        parser.error("--size must be at least 50, --steps and --repeat at least 1")
    return options


def modes(size: int) -> tuple[int, int]:
    """Half waves down and across: short enough to decay visibly in a hundred steps."""
    return max(1, size // 25), max(1, size // 40)


def sine_mode(size: int) -> np.ndarray:
    """The plate at the start."""
    down, across = modes(size)
    x = np.linspace(0.0, np.pi, size)
    plate = np.sin(down * x)[:, np.newaxis] * np.sin(across * x)
    plate[[0, -1], :] = 0.0
    plate[:, [0, -1]] = 0.0
    return plate


def diffuse(plate: np.ndarray, steps: int) -> np.ndarray:
    """Let heat flow for a number of steps, in place."""
    inner = plate[1:-1, 1:-1]
    for _ in range(steps):
        neighbours = plate[:-2, 1:-1] + plate[2:, 1:-1] + plate[1:-1, :-2] + plate[1:-1, 2:]
        inner += COURANT * (neighbours - 4.0 * inner)
    return plate


def check(start: np.ndarray, plate: np.ndarray, steps: int) -> tuple[float, float]:
    """The share of heat left by the closed form of the step, and by that of the equation."""
    size = len(start)
    spacing = SIDE / (size - 1)
    rate, continuous = 0.0, 0.0
    for mode in modes(size):
        rate += math.sin(mode * math.pi / (2 * (size - 1))) ** 2
        continuous += (mode * math.pi / SIDE) ** 2
    left = (1.0 - 4.0 * COURANT * rate) ** steps
    error = float(np.abs(plate - left * start).max())
    if not error < 1e-12 * steps:
        raise SystemExit(f"heat: off the decayed sine mode by {error}")
    elapsed = steps * COURANT * spacing**2 / DIFFUSIVITY
    decay = math.exp(-DIFFUSIVITY * continuous * elapsed)
    if not abs(left - decay) < 0.01 * decay:
        raise SystemExit(f"heat: {left} of the mode is left, the equation says {decay}")
    return left, decay


def main() -> None:
    options = arguments()
    start = sine_mode(options.size)

    seconds = []
    for _ in range(options.repeat):
        plate = start.copy()
        began = time.perf_counter()
        diffuse(plate, options.steps)
        rms = math.sqrt(float((plate**2).mean()))
        seconds.append(time.perf_counter() - began)
    left, decay = check(start, plate, options.steps)

    print(f"copper plate, {options.size} x {options.size} points, {options.steps} steps")
    print(f"left of the sine mode: {left:.6f}; by the differential equation {decay:.6f}")
    median = statistics.median(seconds)
    print(f"seconds: best {min(seconds):.4f}, median {median:.4f} of {len(seconds)}")
    print(f"result: name=heat seconds={median:.6f} checksum={rms:.9g}")


if __name__ == "__main__":
    main()
