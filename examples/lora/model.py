"""A small perceptron with low-rank adapters beside its fixed layers (LoRA, Hu et al. 2022)."""

from __future__ import annotations

import torch
from torch import nn

RANK = 4


class Adapted(nn.Module):
    """`base(x) + up(down(x))`: a fixed linear layer, and an adapter that begins as zero."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_down = nn.Linear(base.in_features, RANK, bias=False)
        self.lora_up = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.zeros_(self.lora_up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [n, out] of pictures [n, in]."""
        return self.base(x) + self.lora_up(self.lora_down(x))


def build_base() -> nn.Sequential:
    """64 pixels in, a score for each of the ten digits out."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def build_model(base: nn.Sequential | None = None) -> nn.Sequential:
    """The base with adapters at both of its layers."""
    first, relu, last = base or build_base()
    return nn.Sequential(Adapted(first), relu, Adapted(last))
