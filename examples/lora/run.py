"""LoRA: sites adapt a model that was trained on digits lying on their side, and send its adapters only."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from comparing import DIGITS, SITE_DIGITS, Curves, run_example  # noqa: E402

import catchment.sdk as fl  # noqa: E402

FILES = [HERE / "train.py", HERE / "model.py", HERE / "config.json", SITE_DIGITS, DIGITS / "evaluate.py"]
SHARED = {"name": "fedavg", "params": {"shared": ["*.lora_*"]}}
JOBS = {"adapters of rank 4": {"parameters": {"--epochs": 5, "--lr": 0.01}, "strategy": SHARED}}


def make_initial(path: Path) -> None:
    """Train the base on all digits, turned by a right angle, and write it with adapters that do nothing."""
    from sklearn.datasets import load_digits

    adapted = _module(HERE / "model.py")
    torch.manual_seed(0)
    pictures, labels = load_digits(return_X_y=True)
    turned = torch.rot90(torch.from_numpy(pictures).float().reshape(-1, 8, 8) / 16, dims=(1, 2))
    x, y = turned.reshape(-1, 64), torch.from_numpy(labels)
    base = adapted.build_base()
    optimizer = torch.optim.Adam(base.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(base(x), y).backward()
        optimizer.step()
    model = adapted.build_model(base)
    fl.save_weights(model, path)
    sent = sum(one.numel() for name, one in model.named_parameters() if "lora_" in name)
    print(f"each update holds {sent} of {sum(one.numel() for one in model.parameters())} numbers", flush=True)


def _module(path: Path):  # the folder of the digits example has a module `model` too
    spec = importlib.util.spec_from_file_location("lora_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def good(curves: Curves) -> bool:
    """The adapters turn the base model's head upright again."""
    return all(curve[-1] >= 0.9 for curve in curves.values())


if __name__ == "__main__":
    sys.exit(run_example("lora", FILES, make_initial, JOBS, good))
