"""Train the adapters alone on the site's digits."""

from __future__ import annotations

import argparse

import torch
from model import build_model
from site_digits import accuracy, load_part, train

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
    train(model, optimizer, x, y, epochs=options.epochs, batch_size=options.batch_size)
    # The job's strategy shares the adapters only: nothing else of the model is sent.
    fl.commit({"sample_num": len(y), "accuracy": accuracy(model, x, y)}, model)


if __name__ == "__main__":
    main()
