"""torch.export's .pt2 archive: its graph stands in JSON, with names, shapes, types and ranges."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract import dtypes, zips
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, TensorSpec, count, shown, sizes

MAX_GRAPH_BYTES = 64 * 2**20
_KNOWN_SCHEMA = 8
"""Major version; PyTorch changes it when older readers would go wrong."""


def read(folder: ModelFolder) -> Extracted:
    """Signature, operators and dynamic dimensions of the one *.pt2 file."""
    name = folder.one("*.pt2")
    with zips.opened(folder, name) as archive:
        models = [entry for inner, entry in archive.inside().items() if _is_model(inner)]
        if len(models) != 1:
            raise ExtractionFailed(
                f"{shown(name)} holds {len(models)} models under models/, one is read; "
                "PyTorch before 2.7 had another layout"
            )
        text = archive.content(models[0], MAX_GRAPH_BYTES)
    try:
        program = json.loads(text)
        return _extracted(program)
    except (ValueError, RecursionError) as error:
        raise ExtractionFailed(f"the graph in {shown(name)} is no JSON: {error}") from None
    except (LookupError, TypeError, AttributeError) as error:
        raise ExtractionFailed(f"the graph in {shown(name)} lacks a part: {error!r}"[:300]) from None


def _is_model(inner: str) -> bool:
    return inner.startswith("models/") and inner.endswith(".json") and inner.count("/") == 1


def _extracted(program: dict[str, Any]) -> Extracted:
    schema = program["schema_version"]
    if schema["major"] != _KNOWN_SCHEMA:
        raise ExtractionFailed(f"the graph has the schema {schema['major']!r}, known is {_KNOWN_SCHEMA}")
    module = program["graph_module"]
    graph, signature = module["graph"], module["signature"]
    metas = graph["tensor_values"]
    inputs, others = _named(signature["input_specs"], "user_input", metas)
    outputs, _ = _named(signature["output_specs"], "user_output", metas)
    learned = [each["parameter"]["arg"]["name"] for each in signature["input_specs"] if "parameter" in each]
    absent = [] if inputs else ["inputs: the program takes no tensor"]
    absent += [] if outputs else ["outputs: the program returns no tensor"]
    return Extracted(
        "ExportedProgram",
        "PyTorch",
        str(program.get("torch_version", "")),
        inputs,
        outputs,
        Counter(str(node["target"]).removeprefix("torch.ops.") for node in graph["nodes"]),
        count(_tensor(name, metas).size or () for name in learned),
        opset={str(name): int(version) for name, version in program.get("opset_version", {}).items()},
        extras={
            "schema": f"{schema['major']}.{schema['minor']}",
            **({"otherInputs": others} if others else {}),
            **_dynamic(program, inputs, metas),
        },
        absent=tuple(absent),
    )


def _named(specs: list[Any], kind: str, metas: dict[str, Any]) -> tuple[tuple[TensorSpec, ...], list[Any]]:
    """The tensors among the program's own inputs or outputs, and what is no tensor."""
    tensors, others = [], []
    for spec in specs:
        if kind in spec:
            argument = spec[kind]["arg"]
            if "as_tensor" in argument:
                tensors.append(_tensor(argument["as_tensor"]["name"], metas))
            else:
                others.append(argument)
    return tuple(tensors), others


def _tensor(name: str, metas: dict[str, Any]) -> TensorSpec:
    meta = metas[name]
    # A dimension is {"as_int": 3}, or an expression of symbols.
    shape = sizes([size.get("as_int") for size in meta["sizes"]], name)
    return TensorSpec(name, shape, dtypes.named(dtypes.TORCH_EXPORT, meta["dtype"]))


def _dynamic(
    program: dict[str, Any], inputs: tuple[TensorSpec, ...], metas: dict[str, Any]
) -> dict[str, Any]:
    """Which dimensions of the inputs are open, and the ranges of the symbols in them."""
    ranges = program.get("range_constraints") or {}
    if not ranges:
        return {}
    symbols = {
        tensor.name: {
            str(axis): size["as_expr"]["expr_str"]
            for axis, size in enumerate(metas[tensor.name]["sizes"])
            if "as_expr" in size
        }
        for tensor in inputs
    }
    return {"ranges": ranges, "symbols": {name: found for name, found in symbols.items() if found}}
