"""The model of the example: a small perceptron for 8x8 pictures of handwritten digits."""

from __future__ import annotations

from torch import nn


def build_model() -> nn.Sequential:
    """64 pixels in, a score for each of the ten digits out."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
