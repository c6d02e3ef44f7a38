"""A picture of a job: accuracy and loss on the sites' test data, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from catchment.client import Round


def save_plot(rounds: Sequence[Round], path: Path) -> Path:
    """Draw the evaluated rounds into a PNG file; returns its path."""
    import matplotlib as mpl

    mpl.use("Agg")  # no window, no display needed
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    evaluated = [one for one in rounds if "accuracy" in one.metrics and "loss" in one.metrics]
    numbers = [one.number for one in evaluated]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(numbers, [one.metrics["accuracy"] for one in evaluated], marker="o", color="tab:blue")
    left.set(title="Test accuracy", xlabel="round", ylim=(0, 1))
    right.plot(numbers, [one.metrics["loss"] for one in evaluated], marker="o", color="tab:red")
    right.set(title="Test loss", xlabel="round")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
