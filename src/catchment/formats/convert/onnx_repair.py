"""Repairs of what exporters make: names, opsets that come twice, made-up dimensions (needs onnx)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BATCH = "batch"


def renamed(model: Any, names: Mapping[str, str]) -> None:
    """Give tensors of the main graph other names, in place; names inside of subgraphs follow.

    Raises:
        ValueError: a new name is another tensor's already.
    """
    names = {old: new for old, new in names.items() if old != new}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {each.name for each in (*model.graph.input, *model.graph.output, *model.graph.initializer)}
    # What has the wanted name inside of the graph makes way: nobody sees it.
    ends = {each.name for each in (*model.graph.input, *model.graph.output)}
    full = dict(names)
    for new in names.values():
        if new in taken and new not in names:
            if new in ends:
                raise ValueError(f"the name {new!r} is another input's or output's")
            full[new] = f"{new}__inner"
    if full:
        _rename_graph(model.graph, full)


def _rename_graph(graph: Any, names: Mapping[str, str]) -> None:
    for each in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        each.name = names.get(each.name, each.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                if name in names:
                    field[index] = names[name]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename_graph(inner, names)


def name_ends(model: Any, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> None:
    """Name the model's inputs and outputs, in their order, in place.

    Raises:
        ValueError: there are not as many.
    """
    weights = {each.name for each in model.graph.initializer}
    ends = [each.name for each in model.graph.input if each.name not in weights]
    for wanted, there in ((inputs, ends), (outputs, [each.name for each in model.graph.output])):
        if wanted is None:
            continue
        if len(wanted) != len(there):
            raise ValueError(
                f"the converted model has {len(there)} of {len(wanted)} inputs or outputs: {there}"
            )
        renamed(model, dict(zip(there, wanted, strict=True)))


def merge_opsets(model: Any) -> None:
    """One entry for each domain, with the newest version, in place."""
    newest: dict[str, int] = {}
    for each in model.opset_import:
        domain = "" if each.domain == "ai.onnx" else each.domain
        newest[domain] = max(newest.get(domain, 0), each.version)
    del model.opset_import[:]
    for domain, version in newest.items():
        entry = model.opset_import.add()
        entry.domain, entry.version = domain, version


def set_shapes(model: Any, shapes: Mapping[str, Sequence[int | None] | None]) -> None:
    """Declare the shapes of inputs and outputs, in place; an open first length is called "batch"."""
    for each in (*model.graph.input, *model.graph.output):
        wanted = shapes.get(each.name)
        if wanted is None:
            continue
        shape = each.type.tensor_type.shape
        old = [dim.dim_param for dim in shape.dim]
        del shape.dim[:]
        each.type.tensor_type.shape.SetInParent()
        for index, length in enumerate(wanted):
            dim = shape.dim.add()
            if length is not None:
                dim.dim_value = length
            elif index == 0:
                dim.dim_param = BATCH
            elif index < len(old) and old[index] and not _made_up(old[index]):
                dim.dim_param = old[index]


def _made_up(name: str) -> bool:
    return name.startswith(("unk__", "dynamic_axes_")) or name.isdecimal()


def forget_inner_shapes(model: Any, names: Iterable[str] = ()) -> None:
    """Drop what exporters noted of inner tensors, which may contradict repaired ends."""
    kept = [each for each in model.graph.value_info if each.name in set(names)]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
