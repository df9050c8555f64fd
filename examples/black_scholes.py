"""Prices of European call and put options by the Black-Scholes formula.

Market data are random with a fixed seed. The normal distribution uses the error function
of Abramowitz and Stegun, "Handbook of Mathematical Functions", formula 7.1.26, whose absolute
error is at most 1.5e-7. The prices are checked by put-call parity, which holds whatever the
distribution, and a sample of them against `math.erf` within the error that formula allows.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import numpy as np

RATE = 0.03  # risk-free interest, per year
ERF_ERROR = 1.5e-7


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=10_000_000, help="number of options")
    parser.add_argument("--repeat", type=int, default=3, help="how often to time the pricing")
    options = parser.parse_args()
    if options.size < 1 or options.repeat < 1:
        parser.error("--size and --repeat must be at least 1")
    return options


def market(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Spot price, strike price, years to expiry and volatility of each option."""
    rng = np.random.default_rng(2024)
    spot = rng.uniform(20.0, 180.0, count)
    strike = spot * rng.uniform(0.7, 1.3, count)
    years = rng.uniform(0.05, 3.0, count)
    volatility = rng.uniform(0.1, 0.6, count)
    return spot, strike, years, volatility


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, by Abramowitz and Stegun 7.1.26."""
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
    series = 1.421413741 + t * (-1.453152027 + t * 1.061405429)
    series = t * (0.254829592 + t * (-0.284496736 + t * series))
    return np.copysign(1.0 - series * np.exp(-(x**2)), x)


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + erf(x / math.sqrt(2.0)))


def prices(
    spot: np.ndarray, strike: np.ndarray, years: np.ndarray, volatility: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Prices of the calls and of the puts."""
    spread = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (RATE + 0.5 * volatility**2) * years) / spread
    d2 = d1 - spread
    discounted = strike * np.exp(-RATE * years)
    call = spot * normal_cdf(d1) - discounted * normal_cdf(d2)
    put = discounted * normal_cdf(-d2) - spot * normal_cdf(-d1)
    return call, put


def call_by_math(spot: float, strike: float, years: float, volatility: float) -> float:
    """The price of one call, with the error function of the standard library."""
    spread = volatility * math.sqrt(years)
    d1 = (math.log(spot / strike) + (RATE + volatility**2 / 2) * years) / spread
    first, second = (math.erf(d / math.sqrt(2)) / 2 + 0.5 for d in (d1, d1 - spread))
    return spot * first - strike * math.exp(-RATE * years) * second


def check(columns: tuple[np.ndarray, ...], call: np.ndarray, put: np.ndarray) -> None:
    spot, strike, years, _ = columns
    parity = float(np.abs(call - put - (spot - strike * np.exp(-RATE * years))).max())
    if not parity < 1e-10:
        raise SystemExit(f"black_scholes: put-call parity is off by {parity}")
    sample = np.random.default_rng(1).integers(0, len(call), size=500)
    rows = zip(*(column[sample].tolist() for column in (*columns, call)), strict=True)
    for *option, got in rows:
        wanted = call_by_math(*option)
        allowed = 0.5 * ERF_ERROR * (option[0] + option[1])
        if not abs(wanted - got) <= allowed:
            raise SystemExit(f"black_scholes: {option} costs {got}, not {wanted} +- {allowed}")


def main() -> None:
    options = arguments()
    columns = market(options.size)

    seconds = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        call, put = prices(*columns)
        mean_call, mean_put = float(call.mean()), float(put.mean())
        seconds.append(time.perf_counter() - start)
    check(columns, call, put)

    print(f"{options.size:,} options, mean call {mean_call:.6f}, mean put {mean_put:.6f}")
    median = statistics.median(seconds)
    print(f"seconds: best {min(seconds):.4f}, median {median:.4f} of {len(seconds)}")
    checksum = mean_call + mean_put
    print(f"result: name=black_scholes seconds={median:.6f} checksum={checksum:.9g}")


if __name__ == "__main__":
    main()
