"""SCAFFOLD beside FedAvg on sites that see few labels: control variates take the drift out of the steps."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from comparing import DIGITS, run_example  # noqa: E402
from make_initial import make_initial  # noqa: E402

FILES = [HERE / "train.py", HERE / "config.json", DIGITS / "evaluate.py", DIGITS / "model.py"]
FIELDS = {"parameters": {"--epochs": 5, "--lr": 0.1, "--batch-size": 32}}
JOBS = {"FedAvg": FIELDS, "SCAFFOLD": {**FIELDS, "optimizer": {"name": "scaffold"}}}

if __name__ == "__main__":
    good = lambda curves: all(curve[-1] >= 0.9 for curve in curves.values())  # noqa: E731
    sys.exit(run_example("scaffold", FILES, make_initial, JOBS, good))
