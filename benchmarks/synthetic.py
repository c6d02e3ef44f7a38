"""Synthetic(a, b): the FedProx paper's generated data, draw for draw as its released code makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INPUTS, CLASSES, DEVICES = 60, 10, 30


@dataclass(frozen=True)
class Samples:
    """Labelled samples.

    Attributes:
        inputs: number of samples x inputs, float64.
        labels: class of each sample.
    """

    inputs: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Problem:
    """What is trained on and what is tested on.

    Attributes:
        clients: each client's own samples.
        test: samples that nobody trains on.
        classes: number of classes.
    """

    clients: tuple[Samples, ...]
    test: Samples
    classes: int


def synthetic(alpha: float, beta: float, seed: int) -> Problem:
    """30 devices, each with a model and inputs of its own (Li et al. 2020, section 5.1).

    Sizes are lognormal, so that some devices hold most of the samples; the last tenth of each device's
    shuffled samples are for the test (the released code shuffles without a seed, so that order is ours).
    `alpha` and `beta` are standard deviations, as in that code.
    """
    random = np.random.RandomState(seed)
    sizes = random.lognormal(4, 2, DEVICES).astype(int) + 50
    models = random.normal(0, alpha, DEVICES)
    centres = random.normal(0, beta, DEVICES)
    means = [random.normal(centre, 1, INPUTS) for centre in centres]
    covariance = np.diag(np.arange(1, INPUTS + 1) ** -1.2)
    devices = []
    for size, model, mean in zip(sizes, models, means, strict=True):
        weight = random.normal(model, 1, (INPUTS, CLASSES))
        bias = random.normal(model, 1, CLASSES)
        inputs = random.multivariate_normal(mean, covariance, size)
        devices.append(Samples(inputs, (inputs @ weight + bias).argmax(axis=1)))
    return _split(devices, random)


def _split(devices: list[Samples], random: np.random.RandomState) -> Problem:
    train, test = [], []
    for device in devices:
        order = random.permutation(len(device))
        cut = int(0.9 * len(device))
        for parts, chosen in ((train, order[:cut]), (test, order[cut:])):
            parts.append(Samples(device.inputs[chosen], device.labels[chosen]))
    return Problem(tuple(train), pooled(test), CLASSES)


def pooled(parts: list[Samples] | tuple[Samples, ...]) -> Samples:
    """All samples of several clients."""
    return Samples(
        np.concatenate([part.inputs for part in parts]), np.concatenate([part.labels for part in parts])
    )


def digits(seed: int, similarity: float, clients: int = 20) -> Problem:
    """Scikit-learn's 1,797 images of digits among some clients, 357 of them for the test.

    A share `similarity` of the samples is dealt out at random, the others sorted by label: at 0 a client
    sees one digit or two (Karimireddy et al. 2020, section 7).
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    images, labels = images[order] / 16.0, labels[order].astype(np.int64)
    cut = 72 * clients
    alike = int(similarity * cut)
    sorted_ones = alike + np.argsort(labels[alike:cut], kind="stable")
    shares = [
        np.concatenate(parts)
        for parts in zip(
            np.array_split(np.arange(alike), clients), np.array_split(sorted_ones, clients), strict=True
        )
    ]
    return Problem(
        tuple(Samples(images[share], labels[share]) for share in shares),
        Samples(images[cut:], labels[cut:]),
        10,
    )
