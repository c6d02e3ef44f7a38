"""One round of training at a site: load the round's weights, train on the site's digits, hand back."""

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
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()

    # The same weights, data and seed give the same update, bit by bit.
    torch.manual_seed(fl.seed())
    x, y = load_part("train")
    model = build_model()
    fl.load_weights(model)
    loss = train(model, x, y, options)
    fl.commit_weights(model)
    fl.commit_metrics({"sample_num": len(y), "loss": loss, "accuracy": accuracy(model, x, y)})
    print(f"trained on {len(y)} digits, mean loss of the last epoch {loss:.4f}")


def load_part(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [n, 64] and labels [n] of "train" or "test" at this site."""
    with np.load(Path(fl.get_dataset_path("digits")) / f"{part}.npz") as arrays:
        return torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, options: argparse.Namespace) -> float:
    """Train in place; the mean loss of the last epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
    mean_loss = 0.0
    for _ in range(options.epochs):
        total = 0.0
        for batch in torch.randperm(len(y)).split(options.batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        mean_loss = total / len(y)
    return mean_loss


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of the pictures that the model reads right."""
    return (model(x).argmax(dim=1) == y).float().mean().item()


if __name__ == "__main__":
    main()
