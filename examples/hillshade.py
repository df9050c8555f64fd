"""Hillshade of a real elevation model, and the statistics of the shade.

The terrain is the Jacksboro fault (Tennessee, USA), a small digital elevation model that
matplotlib ships as sample data. It is enlarged by bilinear interpolation so that the grid has
the size of a real mapping job. The shade is computed as GIS programs do it, by slope and aspect;
the answer is checked against Lambert's law on the surface normal, which needs neither angle.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
from pathlib import Path

import numpy as np

AZIMUTH = math.radians(315.0)  # where the light comes from, clockwise from north
ALTITUDE = math.radians(45.0)  # of the light above the horizon
EXAGGERATION = 2.0  # of heights; usual for hilly, not alpine, ground
METRES_PER_DEGREE = 111_200.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4000, help="rows and columns of the grid")
    parser.add_argument("--repeat", type=int, default=3, help="how often to time the shading")
    options = parser.parse_args()
    if options.size < 16 or options.repeat < 1:
        parser.error("--size must be at least 16 and --repeat at least 1")
    return options


def sample_file(name: str) -> Path:
    """Where matplotlib keeps its sample data; matplotlib itself is not imported."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise SystemExit("hillshade needs the elevation model of matplotlib: install matplotlib")
    return Path(spec.origin).parent / "mpl-data" / "sample_data" / name


def enlarge(grid: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bilinear interpolation to rows x columns."""
    y = np.linspace(0.0, grid.shape[0] - 1.0, rows)
    i = np.minimum(y.astype(np.intp), grid.shape[0] - 2)
    fy = (y - i)[:, np.newaxis]
    grid = grid[i] * (1.0 - fy) + grid[i + 1] * fy
    x = np.linspace(0.0, grid.shape[1] - 1.0, columns)
    j = np.minimum(x.astype(np.intp), grid.shape[1] - 2)
    fx = x - j
    return grid[:, j] * (1.0 - fx) + grid[:, j + 1] * fx


def terrain(size: int) -> tuple[np.ndarray, float, float]:
    """Heights in metres, northernmost row first, and the width and height of one cell."""
    with np.load(sample_file("jacksboro_fault_dem.npz")) as dem:
        elevation = dem["elevation"].astype(np.float64)
        latitude = math.radians(float(dem["ymin"]))
        dx = METRES_PER_DEGREE * float(dem["dx"]) * math.cos(latitude)
        dy = METRES_PER_DEGREE * float(dem["dy"])
    rows, columns = elevation.shape
    heights = enlarge(elevation, size, size)
    return heights, dx * (columns - 1) / (size - 1), dy * (rows - 1) / (size - 1)


def hillshade(z: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Brightness in [0, 1] of each inner cell."""
    to_east = EXAGGERATION * (z[1:-1, 2:] - z[1:-1, :-2]) / (2.0 * dx)
    to_north = EXAGGERATION * (z[:-2, 1:-1] - z[2:, 1:-1]) / (2.0 * dy)
    slope = np.arctan(np.hypot(to_east, to_north))
    aspect = np.arctan2(-to_east, -to_north)  # downhill direction, clockwise from north
    shade = math.sin(ALTITUDE) * np.cos(slope)
    shade += math.cos(ALTITUDE) * np.sin(slope) * np.cos(AZIMUTH - aspect)
    return np.clip(shade, 0.0, 1.0, out=shade)


def summary(shade: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Moments, extremes and a histogram of ten bins."""
    numbers = {
        "mean": float(shade.mean()),
        "std": float(shade.std()),
        "min": float(shade.min()),
        "max": float(shade.max()),
    }
    counts, _ = np.histogram(shade, bins=10, range=(0.0, 1.0))
    return numbers, counts


def lambert(z: np.ndarray, row: int, column: int, dx: float, dy: float) -> float:
    """Cosine between the surface normal and the light, for one inner cell."""
    east = float(z[row + 1, column + 2]) - float(z[row + 1, column])
    north = float(z[row, column + 1]) - float(z[row + 2, column + 1])
    normal = (-EXAGGERATION * east / (2 * dx), -EXAGGERATION * north / (2 * dy), 1.0)
    flat = math.cos(ALTITUDE)
    light = (flat * math.sin(AZIMUTH), flat * math.cos(AZIMUTH), math.sin(ALTITUDE))
    cosine = sum(a * b for a, b in zip(normal, light, strict=True)) / math.hypot(*normal)
    return min(max(cosine, 0.0), 1.0)


def check(z: np.ndarray, shade: np.ndarray, counts: np.ndarray, dx: float, dy: float) -> None:
    if shade.shape != (z.shape[0] - 2, z.shape[1] - 2):
        raise SystemExit(f"hillshade: wrong shape {shade.shape}")
    if int(counts.sum()) != shade.size:
        raise SystemExit(f"hillshade: {int(counts.sum())} of {shade.size} cells in the histogram")
    sample = np.random.default_rng(1).integers(0, shade.shape[0], size=(500, 2)).tolist()
    for row, column in sample:
        wanted, got = lambert(z, row, column, dx, dy), float(shade[row, column])
        if not abs(wanted - got) <= 1e-12:
            raise SystemExit(f"hillshade: {got} at {(row, column)}, Lambert's law gives {wanted}")


def main() -> None:
    options = arguments()
    z, dx, dy = terrain(options.size)

    seconds = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        shade = hillshade(z, dx, dy)
        numbers, counts = summary(shade)
        seconds.append(time.perf_counter() - start)
    check(z, shade, counts, dx, dy)

    print(f"Jacksboro fault, {options.size} x {options.size} cells of {dx:.1f} x {dy:.1f} m")
    print("shade: " + ", ".join(f"{name} {value:.6f}" for name, value in numbers.items()))
    for lower, count in enumerate(counts.tolist()):
        share = count / shade.size
        print(f"  {lower / 10:.1f}-{(lower + 1) / 10:.1f} {share:7.2%} {'#' * round(60 * share)}")
    median = statistics.median(seconds)
    print(f"seconds: best {min(seconds):.4f}, median {median:.4f} of {len(seconds)}")
    checksum = numbers["mean"] + numbers["std"]
    print(f"result: name=hillshade seconds={median:.6f} checksum={checksum:.9g}")


if __name__ == "__main__":
    main()
