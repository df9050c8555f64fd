"""Tone mapping of a real photograph.

The photograph is the portrait of Grace Hopper (James S. Davis, US Navy, public domain) that
matplotlib ships as sample data, enlarged to about 12 megapixels by Pillow. It is taken from sRGB
to linear light, exposed, compressed by the extended Reinhard curve on its luminance (Reinhard et
al., "Photographic tone reproduction for digital images", 2002, equation 4), given more saturation
and taken back to 8-bit sRGB. Sampled pixels are checked against the same formulas in `math`.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

EXPOSURE = 2.0**1.5  # one and a half stops brighter
WHITE = 2.5  # the luminance that becomes white
SATURATION = 1.2
LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green, blue; ITU-R BT.709


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=3750, help="height of the picture in pixels")
    parser.add_argument("--repeat", type=int, default=3, help="how often to time the mapping")
    parser.add_argument("--save", type=Path, help="write the mapped picture to this file")
    options = parser.parse_args()
    if options.size < 16 or options.repeat < 1:
        parser.error("--size must be at least 16 and --repeat at least 1")
    return options


def photograph(height: int) -> np.ndarray:
    """The picture as float32 sRGB in [0, 1], shaped (height, width, 3)."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise SystemExit("tonemap needs the photograph of matplotlib: install matplotlib")
    path = Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as picture:
        width = round(height * picture.width / picture.height)
        enlarged = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(enlarged).astype(np.float32) / 255


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """The sRGB values of linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def tonemap(photo: np.ndarray) -> np.ndarray:
    """The 8-bit picture."""
    rgb = to_linear(photo)
    rgb *= EXPOSURE
    red, green, blue = LUMINANCE
    bright = red * rgb[..., 0:1] + green * rgb[..., 1:2] + blue * rgb[..., 2:3]
    mapped = bright * (1 + bright / WHITE**2) / (1 + bright)
    rgb *= mapped / np.maximum(bright, 1e-6)
    rgb = mapped + SATURATION * (rgb - mapped)
    np.clip(rgb, 0, 1, out=rgb)
    return np.rint(255 * to_srgb(rgb)).astype(np.uint8)


def tonemap_pixel(pixel: list[float]) -> list[int]:
    """The same for one pixel, in double precision."""
    rgb = [
        EXPOSURE * (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
        for value in pixel
    ]
    bright = sum(weight * value for weight, value in zip(LUMINANCE, rgb, strict=True))
    mapped = bright * (1 + bright / WHITE**2) / (1 + bright)
    levels = []
    for value in rgb:
        vivid = mapped + SATURATION * (value * mapped / max(bright, 1e-6) - mapped)
        shown = min(max(vivid, 0.0), 1.0)
        curve = 12.92 * shown if shown <= 0.0031308 else 1.055 * shown ** (1 / 2.4) - 0.055
        levels.append(round(255 * curve))
    return levels


def check(photo: np.ndarray, picture: np.ndarray) -> None:
    if picture.dtype != np.uint8 or picture.shape != photo.shape:
        raise SystemExit(f"tonemap: got {picture.dtype} of shape {picture.shape}")
    rng = np.random.default_rng(1)
    rows = rng.integers(0, photo.shape[0], size=1000)
    columns = rng.integers(0, photo.shape[1], size=1000)
    pixels, got = photo[rows, columns].tolist(), picture[rows, columns].tolist()
    exact = 0
    for pixel, levels in zip(pixels, got, strict=True):
        wanted = tonemap_pixel(pixel)
        # single precision may round a level that lies half-way the other way, but no further
        if max(abs(a - b) for a, b in zip(wanted, levels, strict=True)) > 1:
            raise SystemExit(f"tonemap: {pixel} became {levels}, not {wanted}")
        exact += wanted == levels
    if exact < 980:
        raise SystemExit(f"tonemap: only {exact} of 1000 sampled pixels are exact")


def main() -> None:
    options = arguments()
    photo = photograph(options.size)

    seconds = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        picture = tonemap(photo)
        level = float(picture.mean())
        seconds.append(time.perf_counter() - start)
    check(photo, picture)

    height, width, _ = picture.shape
    print(f"Grace Hopper, {width} x {height} pixels ({width * height / 1e6:.1f} megapixels)")
    print(f"mean level: {255 * float(photo.mean(dtype=np.float64)):.3f} before, {level:.3f} after")
    if options.save:
        Image.fromarray(np.asarray(picture)).save(options.save)
        print(f"saved {options.save}")
    median = statistics.median(seconds)
    print(f"seconds: best {min(seconds):.4f}, median {median:.4f} of {len(seconds)}")
    print(f"result: name=tonemap seconds={median:.6f} checksum={level:.9g}")


if __name__ == "__main__":
    main()
