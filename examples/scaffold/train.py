"""Train on the site's digits: SCAFFOLD's corrected steps, or plain SGD."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from model import build_model
from torch import nn

import catchment.sdk as fl


def main() -> None:
    """Train for some epochs and commit weights and metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--labels", type=int, default=4, help="train on the site's most frequent labels only")
    options = parser.parse_args()

    torch.manual_seed(fl.seed())
    x, y = load_part("train")
    frequent = torch.bincount(y, minlength=10).argsort(descending=True)[: options.labels]
    x, y = x[torch.isin(y, frequent)], y[torch.isin(y, frequent)]
    model = build_model()
    fl.load_weights(model)
    if fl.task().optimizer:
        # Control variates of all sites (c) and of this one (c_k) lie in the task folder.
        optimizer = fl.create_optimizer(params=model.parameters(), learning_rate=options.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    for _ in range(options.epochs):
        for batch in torch.randperm(len(y)).split(options.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    # The steps were counted: the site's new control variate goes with the weights, and stays here too.
    fl.commit({"sample_num": len(y), "accuracy": accuracy(model, x, y)}, model, optimizer)


def load_part(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [n, 64] and labels [n] of "train" or "test" at this site."""
    with np.load(Path(fl.get_dataset_path("digits")) / f"{part}.npz") as arrays:
        return torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of the pictures that the model reads right."""
    return (model(x).argmax(dim=1) == y).float().mean().item()


if __name__ == "__main__":
    main()
