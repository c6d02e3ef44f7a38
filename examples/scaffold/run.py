"""SCAFFOLD beside FedAvg on sites that see four labels each: control variates take out the drift."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from comparing import DIGITS, SITE_DIGITS, Curves, run_example  # noqa: E402
from make_initial import make_initial  # noqa: E402

FILES = [HERE / "train.py", HERE / "config.json", SITE_DIGITS, DIGITS / "evaluate.py", DIGITS / "model.py"]
FIELDS = {"parameters": {"--epochs": 5, "--lr": 0.1, "--batch-size": 32, "--labels": 4}}
JOBS = {"FedAvg": FIELDS, "SCAFFOLD": {**FIELDS, "optimizer": {"name": "scaffold"}}}


def good(curves: Curves) -> bool:
    """SCAFFOLD gets where FedAvg does not."""
    return curves["SCAFFOLD"][-1] >= 0.88 and curves["SCAFFOLD"][-1] > curves["FedAvg"][-1] + 0.05


if __name__ == "__main__":
    sys.exit(run_example("scaffold", FILES, make_initial, JOBS, good))
