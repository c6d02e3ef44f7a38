"""FedProx beside FedAvg: sites that see few labels and train long drift apart; mu holds them together."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from comparing import DIGITS, run_example  # noqa: E402
from make_initial import make_initial  # noqa: E402

FILES = [HERE / "train.py", HERE / "config.json", DIGITS / "evaluate.py", DIGITS / "model.py"]
FIELDS = {"parameters": {"--epochs": 20, "--lr": 0.1, "--batch-size": 32}}
JOBS = {
    "FedAvg": FIELDS,
    "FedProx, mu = 0.1": {**FIELDS, "optimizer": {"name": "fedprox", "params": {"mu": 0.1}}},
}

if __name__ == "__main__":
    good = lambda curves: all(curve[-1] >= 0.9 for curve in curves.values())  # noqa: E731
    sys.exit(run_example("fedprox", FILES, make_initial, JOBS, good))
