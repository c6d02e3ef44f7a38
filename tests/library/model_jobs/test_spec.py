"""The ModelJob's body: the document's example as printed, YAML and JSON, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catchment.errors import InvalidField, TooLarge
from catchment.model_jobs.body import read_body
from catchment.model_jobs.spec import CONVERT, EXTRACT, parse

EXAMPLE = """
apiVersion:kleveross.io/v1alpha1
kind: ModelJob
metadata:
  name: modeljob-graphdef-extract
  namespace: kube-system
spec:
  # Add fields here
  model: "harbor.caicloud.com/release/graphdef:v1"
  desiredTag: "harbor.caicloud.com/release/graphdef:v1"
  extraction:
    format: "GraphDef"
  conversion:
     mmdnn:
        from: "MXNETParams"
        to: "ONNX"
"""
SPEC = {"model": "release/net:v1", "extraction": {"format": "ONNX"}}


def made(**changes: Any) -> dict[str, Any]:
    return {"metadata": {"name": "job"}, "spec": {**SPEC, **changes}}


def converts(source: str, target: str, **options: Any) -> dict[str, Any]:
    pair = {"mmdnn": {"from": source, "to": target}, "options": options}
    return made(conversion=pair, desiredTag="release/net:v2")


def test_the_documents_example_is_taken_as_it_is_printed() -> None:
    new = parse(read_body(EXAMPLE.encode(), "application/yaml"), "kube-system")
    assert new.name == "modeljob-graphdef-extract"
    assert (new.source.repository, new.source.tag) == ("release/graphdef", "v1")
    assert new.target == new.source
    assert new.spec.conversion is not None
    assert (new.spec.conversion.mmdnn.from_, new.spec.conversion.mmdnn.to) == ("MXNETParams", "ONNX")
    assert new.labels == {CONVERT: "true"}


@pytest.mark.parametrize("spelling", ["MXNETParams", "MXNetParams", "mxnetparams"])
def test_formats_are_known_however_their_letters_are_cased(spelling: str) -> None:
    pair = {"mmdnn": {"from": spelling, "to": "onnx"}}
    assert parse(made(conversion=pair, desiredTag="release/net:v2"), "default").spec.conversion is not None


def test_json_is_yaml_and_what_get_returned_can_be_sent_back() -> None:
    body = {
        "apiVersion": "kleveross.io/v1alpha1",
        "kind": "ModelJob",
        "metadata": {"name": "job", "uid": "1", "creationTimestamp": "x", "labels": {"a/b": "c"}},
        "spec": SPEC,
        "status": {"phase": "Succeeded", "message": ""},
    }
    new = parse(read_body(json.dumps(body).encode(), "application/json"), "default")
    assert new.labels == {"a/b": "c", EXTRACT: "true"}


def test_a_job_without_a_name_is_given_one() -> None:
    names = {parse({"spec": SPEC}, "default").name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("modeljob-") for name in names)
    assert parse({"metadata": {"generateName": "my-"}, "spec": SPEC}, "default").name.startswith("my-")


def test_an_input_may_be_written_as_signatures_write_it() -> None:
    (given,) = parse(made(inputs=[{"name": "x", "size": [-1, 4], "dType": "int64"}]), "default").spec.inputs
    assert given.model_dump(by_alias=True) == {"name": "x", "shape": [-1, 4], "dType": "int64"}
    assert type(given).model_validate(given.model_dump(by_alias=True)) == given


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("body", []),
        ("spec", {}),
        ("spec.model", made(model=None)),
        ("spec.model", made(model="net")),
        ("spec.model", made(model="release/net")),
        ("spec.model", made(model="release/net@sha256:" + "0" * 64)),
        ("spec.model", made(model="a/b/c/d:v1")),
        ("spec.extraction", made(extraction=None)),
        ("spec.extraction.format", made(extraction={"format": "Nonsense"})),
        ("spec.desiredTag", made(conversion={"mmdnn": {"from": "H5", "to": "ONNX"}})),
        ("spec.desiredTag", made(desiredTag="release/net:checkpoint_v1")),
        ("spec.conversion.mmdnn.to", made(conversion={"mmdnn": {"from": "H5"}}, desiredTag="a/b:c")),
        (
            "spec.conversion.mmdnn.to",
            made(conversion={"mmdnn": {"from": "H5", "to": "X"}}, desiredTag="a/b:c"),
        ),
        ("spec.conversion.mmdnn.to", converts("H5", "PMML")),
        ("spec.conversion.mmdnn.to", converts("StateDict", "ONNX")),
        ("spec.conversion.options.colour", converts("H5", "ONNX", colour="blue")),
        ("spec.conversion.options.opset", converts("TorchScript", "ONNX", opset=3)),
        ("spec.conversion.options.operation", converts("ONNX", "ONNX", operation="shrink")),
        ("spec.conversion.options.backend", converts("CaffeModel", "ONNX", backend="torch")),
        ("spec.colour", made(colour="blue")),
        ("spec.inputs.0.dType", made(inputs=[{"name": "x", "shape": [1], "dType": "float99"}])),
        ("spec.inputs.0.shape", made(inputs=[{"name": "x", "shape": [0, 3]}])),
        ("spec.inputs", made(inputs=[{"name": "x", "shape": [3]}] * 2)),
        ("spec.inputs.0.shape", made(inputs=[{"name": "x"}])),
        ("spec.tolerance", made(tolerance=0)),
        ("metadata.name", {"metadata": {"name": "Job"}, "spec": SPEC}),
        ("metadata.namespace", {"metadata": {"namespace": "other"}, "spec": SPEC}),
        ("kind", {"kind": "Job", "spec": SPEC}),
        ("apiVersion", {"apiVersion": "v1", "spec": SPEC}),
    ],
)
def test_a_wrong_field_is_named(field: str, body: object) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(body, "default")
    assert refused.value.field == field


@pytest.mark.parametrize(
    "raw",
    [b"{", b"a: *x", b"a: !!python/object:os.system x", b"a: &x [*x]", b"\xff"],
)
def test_what_is_no_plain_tree_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidField, match=r"^body:"):
        parse(read_body(raw, ""), "default")


def test_a_large_body_is_refused_with_the_limit() -> None:
    with pytest.raises(TooLarge, match="more than 1048576 bytes"):
        read_body(b"x" * 2**21, "")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"spec: {}\nspec: {}", "spec"),
        (b"spec:\n  model: a/b:v1\n  desiredTag: a/b:v2\n  model: a/c:v1", "spec.model"),
        (b'{"metadata": {"name": "a", "name": "b"}, "spec": {}}', "metadata.name"),
        (b"spec: {inputs: [{name: x, shape: [1], name: y}]}", "spec.inputs.0.name"),
    ],
)
def test_a_key_that_is_given_twice_is_named(raw: bytes, field: str) -> None:
    with pytest.raises(InvalidField, match="is given twice") as caught:
        read_body(raw, "application/yaml")
    assert caught.value.field == field
