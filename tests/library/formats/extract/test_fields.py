"""PMML, NetDef, TensorRT and prototxt: formats whose files the tests write by hand."""

from __future__ import annotations

import pytest

from catchment.errors import ExtractionFailed
from catchment.formats.extract import prototxt
from catchment.formats.extract.result import TensorSpec
from tests.library.formats.extract.conftest import Reader
from tests.library.formats.extract.wire_writing import Field, floats, message

PMML = """<?xml version="1.0" encoding="UTF-8"?>
<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4">
  <Header><Application name="trainer" version="1.2"/></Header>
  <DataDictionary>
    <DataField name="age" optype="continuous" dataType="double"/>
    <DataField name="town" optype="categorical" dataType="string">
      <Value value="Köln"/><Value value="Bonn"/><Value value="?" property="missing"/>
    </DataField>
    <DataField name="buys" optype="categorical" dataType="integer">
      <Value value="0"/><Value value="1"/>
    </DataField>
  </DataDictionary>
  <TransformationDictionary>
    <DerivedField name="d" optype="continuous" dataType="double"/>
  </TransformationDictionary>
  <MiningModel functionName="classification">
    <MiningSchema>
      <MiningField name="age"/><MiningField name="town" usageType="active"/>
      <MiningField name="buys" usageType="target"/><MiningField name="id" usageType="supplementary"/>
    </MiningSchema>
    <Output>
      <OutputField name="probability(1)" optype="continuous" dataType="double" feature="probability"/>
    </Output>
    <Segmentation>
      <Segment><TreeModel><MiningSchema><MiningField name="inner"/></MiningSchema></TreeModel></Segment>
    </Segmentation>
  </MiningModel>
</PMML>
"""


def test_fields_of_the_outermost_model_are_told_with_pmmls_own_types(read: Reader) -> None:
    found = read("PMML", {"m.pmml": PMML})
    assert [each.to_json() for each in found.inputs] == [
        {"name": "age", "dType": "double", "opType": "continuous"},
        {"name": "town", "dType": "string", "opType": "categorical", "values": ["Köln", "Bonn"]},
    ]
    assert [each.to_json() for each in found.outputs] == [
        {"name": "probability(1)", "dType": "double", "opType": "continuous"},
        {"name": "buys", "dType": "integer", "opType": "categorical", "values": ["0", "1"]},
    ]
    assert found.to_json()["signature"]["layers"] == {}
    assert found.extras == {"model": "MiningModel", "functionName": "classification", "pmmlVersion": "4.4"}
    assert found.framework_version == "trainer 1.2"


def test_prefixed_names_are_the_same_names(read: Reader) -> None:
    prefixed = (
        PMML.replace("<", "<p:").replace("<p:/", "</p:").replace("<p:?", "<?").replace("xmlns=", "xmlns:p=")
    )
    assert read("PMML", {"m.pmml": prefixed}).inputs == read("PMML", {"m.pmml": PMML}).inputs


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (PMML[:-20], "does not end"),
        (PMML.replace("</Header>", "</Head>"), "well-formed"),
        ("<PMML></PMML>", "no model"),
        ("<PMML>" + "<a>" * 600 + "</PMML>", "nests"),
    ],
)
def test_a_damaged_pmml_is_refused(read: Reader, content: str, complaint: str) -> None:
    with pytest.raises(ExtractionFailed, match=complaint):
        read("PMML", {"m.pmml": content})


def operator(kind: str, inputs: list[str], outputs: list[str], *arguments: list[Field]) -> Field:
    return (
        2,
        [
            *((1, name) for name in inputs),
            *((2, name) for name in outputs),
            (4, kind),
            *((5, argument) for argument in arguments),
        ],
    )


def nets() -> dict[str, bytes | str]:
    values: list[Field] = [(1, "values"), (5, floats(*range(12)))]
    shape: list[Field] = [(1, "shape"), (6, 4), (6, 3)]
    init = message(
        (1, "init"),
        operator("GivenTensorFill", [], ["w"], shape, values),
        operator("ConstantFill", [], ["b"], [(1, "shape"), (6, 3)]),
    )
    predict = message(
        (1, "net"),
        operator("FC", ["data", "w", "b"], ["h"]),
        operator("Softmax", ["h"], ["prob"], [(1, "axis"), (3, 1)]),
        (7, "data"),
        (7, "w"),
        (7, "b"),
        (8, "prob"),
    )
    return {"init_net.pb": init, "predict_net.pb": predict}


def test_operators_and_fills_of_a_netdef_are_counted(read: Reader) -> None:
    found = read("NetDef", nets())
    assert found.layers == {"FC": 1, "Softmax": 1}
    assert found.parameters == 15
    assert found.extras == {"net": "net", "arguments": ["data"], "results": ["prob"]}
    assert found.inputs == ()
    assert "must be given" in found.absent[0]


def test_a_netdef_without_operators_is_refused(read: Reader) -> None:
    with pytest.raises(ExtractionFailed, match="no operators"):
        read("NetDef", {**nets(), "predict_net.pb": message((1, "net"))})


def test_of_an_engine_only_its_version_is_told(read: Reader) -> None:
    head = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26])
    found = read("TensorRT", {"m.plan": head + bytes(100)})
    assert found.framework_version == "10.3.0.26"
    assert "cannot be inspected without the GPU" in found.absent[0]


@pytest.mark.parametrize("head", [b"ftrt" + b"\1" + bytes(40), b"other" * 10, b"ftrt"])
def test_an_engine_of_an_unknown_layout_has_no_version(read: Reader, head: bytes) -> None:
    found = read("TensorRT", {"m.engine": head})
    assert found.framework_version == ""
    assert "not known" in found.absent[1]


def test_text_format_in_all_its_spellings() -> None:
    text = (
        b"""a: "x" 'y'  # said twice
    """.replace(b"'y'", b"a: 'y'")
        + b"b { c: 1; d < e: -2.5e3 > } b: { c: [1, 2] } f: true"
    )
    block = prototxt.parse(text)
    assert block.texts("a") == ["x", "y"]
    assert [inner.texts("c") for inner in block.blocks("b")] == [["1"], ["1", "2"]]
    assert block.blocks("b")[0].blocks("d")[0].text("e") == "-2.5e3"
    assert block.text("f") == "true"
    assert block.text("none") == ""


@pytest.mark.parametrize(
    "text", [b"a {", b"}", b"a:", b'a: "x', b"a: [1, {", b"a: @", b"x {" * 200, b"a: : 1"]
)
def test_damaged_text_format_is_refused(text: bytes) -> None:
    with pytest.raises(ExtractionFailed, match="prototxt"):
        prototxt.parse(text)


def test_a_caffe_input_without_size_says_so(read: Reader) -> None:
    net = 'input: "data" layer { name: "r" type: "ReLU" bottom: "data" top: "out" }'
    found = read("CaffeModel", {"n.prototxt": net, "n.caffemodel": message((100, [(1, "r"), (2, "ReLU")]))})
    assert found.inputs == (TensorSpec("data", None, "float32"),)
    assert found.outputs == (TensorSpec("out", None, "float32"),)
    assert "the size of 'data': not in the prototxt" in found.absent


def test_a_caffemodel_of_another_net_is_told(read: Reader) -> None:
    net = 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "out" }'
    found = read("CaffeModel", {"n.prototxt": net, "n.caffemodel": message((100, [(1, "other")]))})
    assert found.extras["layersWithoutWeights"] == ["fc"]


def test_the_deployed_net_is_taken_when_there_are_several(read: Reader) -> None:
    weights = message((100, [(1, "r")]))
    nets = {
        f"{name}.prototxt": f'layer {{ name: "{name}" type: "ReLU" }}'
        for name in ("deploy", "train", "solver")
    }
    assert read("CaffeModel", {**nets, "n.caffemodel": weights}).extras["layersWithoutWeights"] == ["deploy"]
    with pytest.raises(ExtractionFailed, match="which file is meant"):
        read("ONNX", {"a.onnx": b"x", "b.onnx": b"x"})
