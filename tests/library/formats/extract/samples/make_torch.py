"""Makes torchscript/model.pt, exported/model.pt2, state_dict/model.pth and legacy/model.pth.

Run: python make_torch.py, with torch 2.13.0.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent
warnings.simplefilter("ignore")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.conv2 = nn.Conv2d(2, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(8, 3)

    def forward(self, image: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.fc(torch.relu(self.norm(self.conv2(self.conv1(image)))).flatten(1) * scale)


class Plain(Net):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image, 2.0)


def without_source_paths(path: Path) -> None:
    """Take out of a TorchScript archive what says where on this machine its source lay."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith("debug_pkl")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(zipfile.ZipInfo(name), content)


torch.manual_seed(0)
for name in ("torchscript", "exported", "state_dict", "legacy"):
    (HERE / name).mkdir(exist_ok=True)
torch.jit.script(Net().eval()).save(str(HERE / "torchscript" / "model.pt"))
without_source_paths(HERE / "torchscript" / "model.pt")
batch = torch.export.Dim("batch", min=1, max=64)
program = torch.export.export(
    Plain().eval(), (torch.zeros(2, 1, 6, 6),), dynamic_shapes={"image": {0: batch}}
)
for node in program.graph.nodes:
    node.meta.pop("stack_trace", None)
torch.export.save(program, HERE / "exported" / "model.pt2")
torch.save(Net().state_dict(), HERE / "state_dict" / "model.pth")
torch.save(Net().state_dict(), HERE / "legacy" / "model.pth", _use_new_zipfile_serialization=False)
