"""Train on the site's digits: SCAFFOLD's corrected steps, or plain SGD."""

from __future__ import annotations

import argparse

import torch
from model import build_model
from site_digits import accuracy, load_part, train

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
    train(model, optimizer, x, y, epochs=options.epochs, batch_size=options.batch_size)
    # The steps were counted: the site's new control variate goes with the weights, and stays here too.
    fl.commit({"sample_num": len(y), "accuracy": accuracy(model, x, y)}, model, optimizer)


if __name__ == "__main__":
    main()
