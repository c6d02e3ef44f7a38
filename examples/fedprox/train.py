"""Train on the site's digits with what the job asks for: FedProx's optimizer, or plain SGD."""

from __future__ import annotations

import argparse

import torch
from model import build_model
from site_digits import accuracy, load_part, train

import catchment.sdk as fl


def main() -> None:
    """Train for some epochs and commit weights and metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()

    torch.manual_seed(fl.seed())
    x, y = load_part("train")
    model = build_model()
    fl.load_weights(model)
    if fl.task().optimizer:
        # mu comes from the job; the round's weights, towards which it pulls, are known.
        optimizer = fl.create_optimizer(params=model.parameters(), learning_rate=options.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    train(model, optimizer, x, y, epochs=options.epochs, batch_size=options.batch_size)
    fl.commit({"sample_num": len(y), "accuracy": accuracy(model, x, y)}, model, optimizer)


if __name__ == "__main__":
    main()
