"""Writes the sample models of the torch backend; run by its environment's Python."""

import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(sys.argv[1])
CANARY: str = sys.argv[2]
torch.manual_seed(0)


def named(name: str) -> Path:
    """A new folder of that name."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    return folder


def predicted(name: str, inputs: dict, *outputs: object) -> None:
    """Store beside a model what it makes of some inputs, in the order of its outputs."""
    made = {f"out:{index}": np.asarray(each) for index, each in enumerate(outputs)}
    np.savez(FOLDER / f"{name}.npz", **{f"in:{key}": value for key, value in inputs.items()}, **made)


class Small(torch.nn.Module):
    """A convolution, a pooling, and two results."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.classes = torch.nn.Linear(4 * 9, 5)
        self.score = torch.nn.Linear(4 * 9, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [batch, 3, 8, 8] to probabilities [batch, 5] and scores [batch, 1]."""
        inner = torch.max_pool2d(torch.relu(self.convolution(image)), 2).flatten(1)
        return torch.softmax(self.classes(inner), dim=1), self.score(inner)


class Endless(torch.nn.Module):
    """Never returns."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add until the end of time."""
        while bool(x.sum() == x.sum()):
            x = x + 1e-30
        return x


class Greedy(torch.nn.Module):
    """Fills the memory with pages that are really used, piece by piece."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep one gigabyte after another."""
        kept = [x]
        for index in range(100):
            kept.append(torch.ones(25_000_000) * index)
        return kept[0]


class Hostile(torch.nn.Module):
    """Its code runs as soon as the archive is loaded: it makes a file, by mapping it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.written = 0.0

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        # Used for something, or the compiler leaves it out.
        self.written = float(torch.from_file(self.path, shared=True, size=4).fill_(1.0).sum())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Double."""
        return x * 2


example = torch.zeros(2, 3, 8, 8)
small = Small().eval()
torch.jit.save(torch.jit.trace(small, example), named("script") / "model.pt")
free = {0: torch.export.Dim("batch")}
torch.export.save(
    torch.export.export(small, (example,), dynamic_shapes=(free,)), named("exported") / "model.pt2"
)
images = torch.randn(7, 3, 8, 8)
with torch.no_grad():
    for name in ("script", "exported"):
        predicted(name, {"image": images.numpy()}, *small(images))
state = {**small.state_dict(), "half": torch.ones(3, dtype=torch.bfloat16), "steps": torch.tensor(7)}
torch.save(state, named("state") / "model.pth")
np.savez(FOLDER / "state.npz", **{name: each.float().numpy() for name, each in state.items()})
for name, module in (("endless", Endless()), ("greedy", Greedy()), ("hostile", Hostile(CANARY))):
    torch.jit.save(torch.jit.script(module), named(name) / "model.pt")
