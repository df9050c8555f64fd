"""Softmax regression with weights and inputs quantised to 8-bit integers.

The data are generated: ten overlapping Gaussian clusters in 64 dimensions with a fixed seed. A few
steps of gradient descent in floating point train the model; the timed part is inference in
integers: quantise the inputs, multiply in 32-bit integers, scale back, softmax. The answer is
checked against inference in floating point, and a sample against Python's own integers.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import NamedTuple

import numpy as np

CLASSES, FEATURES = 10, 64
TRAINING = 4000  # samples used for training
STEPS, LEARNING_RATE = 60, 0.5


class Quantised(NamedTuple):
    """A model in integers: a real weight is `weights * weight_scales`."""

    weights: np.ndarray  # int8, features x classes
    weight_scales: np.ndarray  # one for each class
    input_scale: float
    bias: np.ndarray


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=400_000, help="number of samples to classify")
    parser.add_argument("--repeat", type=int, default=3, help="how often to time the inference")
    options = parser.parse_args()
    if options.size < TRAINING or options.repeat < 1:
        parser.error(f"--size must be at least {TRAINING} and --repeat at least 1")
    return options


def clusters(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples and the class of each."""
    rng = np.random.default_rng(7)
    centres = rng.normal(0.0, 0.5, (CLASSES, FEATURES))
    labels = rng.integers(0, CLASSES, count)
    samples = centres[labels] + rng.normal(0.0, 1.0, (count, FEATURES))
    return samples, labels


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row; the largest logit is taken off so that exp cannot overflow."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def train(samples: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias after a few steps of gradient descent on the cross entropy."""
    weights, bias = np.zeros((FEATURES, CLASSES)), np.zeros(CLASSES)
    wanted = np.eye(CLASSES)[labels]
    for _ in range(STEPS):
        error = softmax(samples @ weights + bias) - wanted
        weights -= LEARNING_RATE / len(samples) * (samples.T @ error)
        bias -= LEARNING_RATE * error.mean(axis=0)
    return weights, bias


def to_int8(values: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8)


def quantise(weights: np.ndarray, bias: np.ndarray, samples: np.ndarray) -> Quantised:
    """The model in integers; the input scale comes from samples seen in training."""
    scales = np.abs(weights).max(axis=0) / 127
    input_scale = float(np.abs(samples).max()) / 127
    return Quantised(to_int8(weights, scales), scales, input_scale, bias)


def infer(samples: np.ndarray, model: Quantised) -> np.ndarray:
    """Probabilities of each class, by integer arithmetic up to the softmax."""
    inputs = to_int8(samples, model.input_scale)
    products = inputs.astype(np.int32) @ model.weights.astype(np.int32)
    return softmax(products * (model.input_scale * model.weight_scales) + model.bias)


def infer_one(sample: list[float], model: Quantised) -> list[float]:
    """The same for one sample, in Python's integers and `math`."""
    inputs = [min(max(round(value / model.input_scale), -127), 127) for value in sample]
    logits = []
    for column, scale, bias in zip(
        model.weights.T.tolist(), model.weight_scales.tolist(), model.bias.tolist(), strict=True
    ):
        product = sum(a * b for a, b in zip(inputs, column, strict=True))
        logits.append(product * model.input_scale * scale + bias)
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [value / math.fsum(exponentials) for value in exponentials]


def check(samples: np.ndarray, got: np.ndarray, exact: np.ndarray, model: Quantised) -> None:
    if not float(np.abs(got.sum(axis=1) - 1.0).max()) < 1e-12:
        raise SystemExit("quantised_softmax: probabilities do not add up to one")
    picked = np.random.default_rng(1).integers(0, len(samples), size=50)
    for sample, row in zip(samples[picked].tolist(), got[picked].tolist(), strict=True):
        wanted = infer_one(sample, model)
        if not all(abs(a - b) <= 1e-12 for a, b in zip(wanted, row, strict=True)):
            raise SystemExit(f"quantised_softmax: got {row}, Python's integers give {wanted}")
    typical = float(np.abs(got - exact).mean())
    if not typical < 0.005:
        raise SystemExit(f"quantised_softmax: probabilities are off by {typical} on average")
    agree = float((got.argmax(axis=1) == exact.argmax(axis=1)).mean())
    if not agree > 0.97:
        raise SystemExit(f"quantised_softmax: only {agree:.2%} of the answers survive int8")


def main() -> None:
    options = arguments()
    samples, labels = clusters(options.size)
    weights, bias = train(samples[:TRAINING], labels[:TRAINING])
    model = quantise(weights, bias, samples[:TRAINING])

    seconds = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        probabilities = infer(samples, model)
        confidence = float(probabilities.max(axis=1).mean())
        seconds.append(time.perf_counter() - start)
    exact = softmax(samples @ weights + bias)
    check(samples, probabilities, exact, model)

    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    in_float = float((exact.argmax(axis=1) == labels).mean())
    if not (in_float > 0.9 and accuracy > in_float - 0.01):
        raise SystemExit(f"quantised_softmax: accuracy {accuracy}, in floats {in_float}")
    print(f"{options.size:,} generated samples, {FEATURES} features, {CLASSES} classes")
    print(f"accuracy {accuracy:.4%} in int8, {in_float:.4%} in floats; confidence {confidence:.6f}")
    median = statistics.median(seconds)
    print(f"seconds: best {min(seconds):.4f}, median {median:.4f} of {len(seconds)}")
    print(f"result: name=quantised_softmax seconds={median:.6f} checksum={confidence:.9g}")


if __name__ == "__main__":
    main()
