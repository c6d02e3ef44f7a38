"""TorchScript: modules and parameters from its pickle, arguments from its code; neither is run."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract import torch_values, zips
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.pickles import Call, Global, Machine, refusal
from catchment.formats.extract.result import Extracted, count, shown
from catchment.formats.extract.tensors import listed
from catchment.formats.extract.torch_code import Class, Code

MAX_MODULES = 100_000
_OWN = "__torch__"
_PLAIN = "torch.jit._pickle"


def read(folder: ModelFolder) -> Extracted:
    """The modules, parameters and arguments of the one *.pt file."""
    name = folder.one("*.pt", "*.pth", "*.ts", "*.torchscript")
    with zips.opened(folder, name) as archive:
        entries = archive.inside()
        if "data.pkl" not in entries or "constants.pkl" not in entries:
            hint = "a state dict: format StateDict" if "data.pkl" in entries else "another archive"
            raise ExtractionFailed(f"{shown(name)} is no TorchScript archive; it could be {hint}")
        pickle = archive.content(entries["data.pkl"], torch_values.MAX_PICKLE_BYTES)
        root = Machine(io.BytesIO(pickle), _check).run()
        code = Code(archive, entries)
        found = _Found()
        for path, module in _modules(root):
            found.add(path, module, code)
        version = archive.content(entries["version"], 100).decode("ascii", "replace").strip()
    return _extracted(root, found, code, version)


def _check(found: Global) -> None:
    """Let pass the archive's own classes, plain values and tensors."""
    own = found.module == _OWN or found.module.startswith(f"{_OWN}.")
    if not own and found.module != _PLAIN and not torch_values.is_of_tensors(found):
        raise refusal(found, "save the model again with torch.jit.save")


@dataclass
class _Found:
    layers: Counter[str] = field(default_factory=Counter)
    modules: Counter[str] = field(default_factory=Counter)
    tensors: dict[str, torch_values.Spec] = field(default_factory=dict)
    parameters: list[tuple[int, ...]] = field(default_factory=list)
    at_load: list[str] = field(default_factory=list)

    def add(self, path: str, module: Call, code: Code) -> None:
        """Count one module; `path` is "" for the whole model and has one part for what lies right in it."""
        kind = code.of(module.function)
        if kind.runs_at_load:
            self.at_load.append(kind.name)
        if path:
            self.modules[kind.name] += 1
        if path and "." not in path:
            # The original's layers: names of children up to their first digit. Of a number, that is nothing.
            self.layers[re.split(r"\d", path, maxsplit=1)[0] or kind.name] += 1
        for name, value in torch_values.members(module):
            spec = torch_values.tensor(value)
            if spec is not None:
                self.tensors[f"{path}.{name}" if path else name] = spec
                self.parameters += [spec[1]] if name in kind.parameters else []


def _modules(root: Any) -> Iterator[tuple[str, Call]]:
    """All modules below a value with the way to them; each once."""
    if not _is_module(root):
        raise ExtractionFailed("the archive holds no module")
    waiting, seen = [("", root)], {id(root)}
    while waiting:
        path, module = waiting.pop()
        yield path, module
        for name, value in reversed(list(torch_values.members(module))):
            if _is_module(value) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{path}.{name}" if path else name, value))
        if len(seen) > MAX_MODULES:
            raise ExtractionFailed(f"the model has more than {MAX_MODULES} modules")


def _is_module(value: Any) -> bool:
    return (
        isinstance(value, Call)
        and isinstance(value.function, Global)
        and value.function.module.partition(".")[0] == _OWN
    )


def _extracted(root: Call, found: _Found, code: Code, version: str) -> Extracted:
    kind: Class = code.of(root.function)
    extras: dict[str, Any] = {
        "class": kind.name,
        "archiveVersion": version,
        "modules": dict(found.modules),
        **listed(found.tensors),
    }
    if kind.arguments is not None:
        extras |= {"arguments": kind.arguments, "returns": kind.returns}
    if found.at_load:
        extras["runsAtLoad"] = sorted(set(found.at_load))
    absent = ["the sizes and dtypes of the inputs: TorchScript does not hold them, they must be given"]
    absent.append("the names, sizes and dtypes of the outputs: TorchScript does not hold them")
    absent += [] if kind.arguments is not None else ["arguments: the model has no method 'forward'"]
    absent.append("the PyTorch version: an archive holds only its format's own number")
    return Extracted(
        "TorchScript",
        "PyTorch",
        layers=found.layers,
        parameters=count(found.parameters),
        extras=extras,
        absent=tuple(absent),
    )
