"""FedProx beside FedAvg, on sites that train long between rounds.

On these digits the pull costs some speed. It pays where sites differ more, or where some stop early: there
FedAvg swings, and FedProx does not (Li et al. 2020).
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from comparing import DIGITS, SITE_DIGITS, Curves, run_example  # noqa: E402
from make_initial import make_initial  # noqa: E402

FILES = [HERE / "train.py", HERE / "config.json", SITE_DIGITS, DIGITS / "evaluate.py", DIGITS / "model.py"]
FIELDS = {"parameters": {"--epochs": 20, "--lr": 0.1, "--batch-size": 32}}
JOBS = {
    "FedAvg": FIELDS,
    "FedProx, mu = 0.1": {**FIELDS, "optimizer": {"name": "fedprox", "params": {"mu": 0.1}}},
}


def good(curves: Curves) -> bool:
    """Both learn to read."""
    return all(curve[-1] >= 0.9 for curve in curves.values())


if __name__ == "__main__":
    sys.exit(run_example("fedprox", FILES, make_initial, JOBS, good))
