"""Train the adapters alone on the site's digits."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from model import build_model
from torch import nn

import catchment.sdk as fl


def main() -> None:
    """Train for some epochs and commit what was trained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()

    torch.manual_seed(fl.seed())
    x, y = load_part("train")
    model = build_model()
    fl.load_weights(model)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=options.lr)
    for _ in range(options.epochs):
        for batch in torch.randperm(len(y)).split(options.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    # The job's strategy shares the adapters only: nothing else of the model is sent.
    fl.commit({"sample_num": len(y), "accuracy": accuracy(model, x, y)}, model)


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
