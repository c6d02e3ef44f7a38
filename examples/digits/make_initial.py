"""Write the weights that a job starts from: `python make_initial.py FILE.safetensors`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from model import build_model

import catchment.sdk as fl


def make_initial(path: Path, seed: int = 0) -> None:
    """Write freshly initialised weights; the same seed gives the same file."""
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    fl.save_weights(build_model(), path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    make_initial(Path(sys.argv[1]))
