"""A masked job beside the same job in the open: what the coordinator is not shown costs no accuracy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from comparing import DIGITS, Curves, run_example  # noqa: E402
from make_initial import make_initial  # noqa: E402

FILES = [DIGITS / name for name in ("train.py", "config.json", "evaluate.py", "model.py")]
JOB = json.loads((HERE / "job.json").read_text())
JOBS = {
    "in the open": {},
    # job.json itself, but for its paths, which are those of this example's folder here.
    "masked": {name: JOB[name] for name in JOB.keys() - {"id", "model_path", "scripts", "output"}},
}


def good(curves: Curves) -> bool:
    """Both learn to read, and alike: the masked sum is exact but for its fixed point."""
    return (
        all(curve[-1] >= 0.9 for curve in curves.values())
        and abs(curves["masked"][-1] - curves["in the open"][-1]) < 0.02
    )


if __name__ == "__main__":
    sys.exit(run_example("ssa", FILES, make_initial, JOBS, good))
