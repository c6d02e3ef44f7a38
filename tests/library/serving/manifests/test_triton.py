"""config.pbtxt says what the signature says, and is read as protobuf's own text form is."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import InvalidField
from catchment.serving.manifests.triton import DATA_TYPES, PLATFORMS, config_pbtxt

TYPES = ["INVALID", "BOOL"]
TYPES += ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
TYPES += ["FP16", "FP32", "FP64", "STRING", "BF16"]
"""Numbered from 0, as in NVIDIA's model_config.proto."""


def model_config() -> Any:
    """The message ModelConfig with the fields that we write, under their numbers in model_config.proto."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="t", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(TYPES):
        types.value.add(name=f"TYPE_{name}", number=number)

    def message(name: str, *fields: tuple[str, int, int, str, bool]) -> None:
        made = file.message_type.add(name=name)
        for title, number, kind, of, many in fields:
            made.field.add(
                name=title,
                number=number,
                type=kind,
                type_name=of or None,
                label=kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL,
            )

    message("Reshape", ("shape", 1, kinds.TYPE_INT64, "", True))
    for kind, dims, reshape in (("Input", 4, 5), ("Output", 3, 5)):
        message(
            kind,
            ("name", 1, kinds.TYPE_STRING, "", False),
            ("data_type", 2, kinds.TYPE_ENUM, ".t.DataType", False),
            ("dims", dims, kinds.TYPE_INT64, "", True),
            ("reshape", reshape, kinds.TYPE_MESSAGE, ".t.Reshape", False),
        )
    message(
        "ModelConfig",
        ("name", 1, kinds.TYPE_STRING, "", False),
        ("platform", 2, kinds.TYPE_STRING, "", False),
        ("max_batch_size", 4, kinds.TYPE_INT32, "", False),
        ("input", 5, kinds.TYPE_MESSAGE, ".t.Input", True),
        ("output", 6, kinds.TYPE_MESSAGE, ".t.Output", True),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


CONFIG = model_config()
tensors = st.lists(
    st.fixed_dictionaries(
        {
            # Half a surrogate pair is no character, and no signature holds one.
            "name": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
            "dType": st.sampled_from(sorted(DATA_TYPES)),
            "size": st.lists(st.one_of(st.just(-1), st.integers(1, 2**31)), max_size=5),
        }
    ),
    min_size=1,
    max_size=4,
)


def read(text: str) -> Any:
    return text_format.Parse(text, CONFIG())


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(sorted(set(PLATFORMS) - {"TorchScript"})),
    tensors,
    tensors,
)
def test_what_is_written_is_what_protobuf_reads(
    name: str, format_name: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]
) -> None:
    config = read(config_pbtxt(name, format_name, inputs, outputs))
    assert (config.name, config.platform, config.max_batch_size) == (name, PLATFORMS[format_name], 0)
    for given_tensors, found in ((inputs, config.input), (outputs, config.output)):
        assert [each.name for each in found] == [each["name"] for each in given_tensors]
        for told, each in zip(given_tensors, found, strict=True):
            assert f"TYPE_{TYPES[each.data_type]}" == DATA_TYPES[told["dType"]]
            assert list(each.dims) == (told["size"] or [1])
            assert each.HasField("reshape") == (not told["size"])
            assert list(each.reshape.shape) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("uint32", "UINT32"),
        ("string", "STRING"),
        ("object", "STRING"),
        ("bfloat16", "BF16"),
        ("Bool", "BOOL"),
    ],
)
def test_types_that_the_original_lost_are_there(name: str, expected: str) -> None:
    text = config_pbtxt("m", "ONNX", [{"name": "a", "dType": name, "size": [1]}], [Y])
    assert f"data_type: TYPE_{expected}\n" in text
    assert "None" not in text


Y = {"name": "y", "dType": "float32", "size": [2]}


@pytest.mark.parametrize(
    ("tensor", "field", "words"),
    [
        ({"name": "a", "dType": "complex64", "size": [1]}, "signature.inputs[0].dType", "complex64"),
        ({"name": "a", "dType": "", "size": [1]}, "signature.inputs[0].dType", "no type"),
        ({"name": "a", "size": [1]}, "signature.inputs[0].dType", "None"),
        ({"name": "", "dType": "int8", "size": [1]}, "signature.inputs[0].name", "names"),
        ({"name": "a", "dType": "int8", "size": [0]}, "signature.inputs[0].size", "at least 1"),
        ({"name": "a", "dType": "int8", "size": [-2]}, "signature.inputs[0].size", "-1"),
        ({"name": "a", "dType": "int8", "size": [True]}, "signature.inputs[0].size", "True"),
        ({"name": "a", "dType": "int8", "size": [1.5]}, "signature.inputs[0].size", "1.5"),
    ],
)
def test_what_triton_could_not_read_is_refused(tensor: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        config_pbtxt("m", "ONNX", [tensor], [Y])
    assert caught.value.field == field


def test_a_model_without_a_signature_is_refused() -> None:
    with pytest.raises(InvalidField, match="extract") as caught:
        config_pbtxt("m", "SavedModel", [Y], [])
    assert caught.value.field == "signature.outputs"


@pytest.mark.parametrize("format_name", ["H5", "SKLearn", "PMML", ""])
def test_formats_without_a_platform_are_refused(format_name: str) -> None:
    with pytest.raises(InvalidField, match="Triton serves ONNX"):
        config_pbtxt("m", format_name, [Y], [Y])


def test_outputs_of_torchscript_must_be_numbered() -> None:
    for name in ("y", "y_0", "y__a", "__0", ""):
        with pytest.raises(InvalidField, match="OUTPUT__1") as caught:
            config_pbtxt("m", "TorchScript", [Y], [{**Y, "name": "OUTPUT__0"}, {**Y, "name": name}])
        assert caught.value.field == "signature.outputs[1].name"
    numbered = config_pbtxt("m", "TorchScript", [Y], [{**Y, "name": "OUTPUT__0"}])
    assert [each.name for each in read(numbered).output] == ["OUTPUT__0"]
