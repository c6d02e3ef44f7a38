"""What the training scripts of the examples share: a site's digits, plain epochs over them, and accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import catchment.sdk as fl


def load_part(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [n, 64] and labels [n] of "train" or "test" at this site."""
    with np.load(Path(fl.get_dataset_path("digits")) / f"{part}.npz") as arrays:
        return torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epochs: int,
    batch_size: int,
) -> None:
    """Train in place, in batches that are drawn anew in each epoch."""
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of the pictures that the model reads right."""
    return (model(x).argmax(dim=1) == y).float().mean().item()
