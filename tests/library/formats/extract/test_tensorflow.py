"""GraphDef and SavedModel are read without TensorFlow."""

from __future__ import annotations

import pytest

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import TensorSpec
from tests.library.formats.extract import tf_writing as tf
from tests.library.formats.extract.conftest import Reader
from tests.library.formats.extract.wire_writing import message


def test_placeholders_and_unconsumed_nodes_are_the_signature_of_a_graph(read: Reader) -> None:
    found = read("GraphDef", {"frozen.graphdef": tf.frozen()})
    assert found.inputs == (TensorSpec("x", (-1, 4), "float32"),)
    assert found.outputs == (TensorSpec("y", None, "float32"),)
    assert found.layers == {"Placeholder": 1, "Const": 2, "MatMul": 1, "NoOp": 1, "Softmax": 1}
    assert found.parameters == 12  # of floating point; the axis is no parameter
    assert any("sizes of the outputs" in each for each in found.absent)
    assert found.extras["producer"] == 1882


def test_a_cycle_in_the_graph_ends(read: Reader) -> None:
    graph = message(tf.node("a", "Add", ["b"]), tf.node("b", "Add", ["a"]))
    found = read("GraphDef", {"m.graphdef": graph})
    assert found.outputs == ()
    assert "outputs: every node is consumed by another" in found.absent


def test_a_graph_without_operations_is_refused(read: Reader) -> None:
    with pytest.raises(ExtractionFailed, match="no GraphDef"):
        read("GraphDef", {"m.graphdef": message((9, "x"))})


def test_the_served_signature_is_taken_and_its_functions_are_walked_once(read: Reader) -> None:
    found = read("SavedModel", {"saved_model.pb": tf.served()})
    assert found.inputs == (TensorSpec("x", (-1, 4), "float32", tensor_name="serving_x:0"),)
    assert found.outputs == (TensorSpec("y", (-1, 3), "float32", tensor_name="call:0"),)
    assert found.framework_version == "2.21.0"
    assert found.layers == {
        "Placeholder": 1,
        "VarHandleOp": 1,
        "StatefulPartitionedCall": 1,
        "PartitionedCall": 1,
        "MatMul": 1,
        "While": 1,
    }
    assert found.parameters == 12  # not what the optimizer keeps
    assert found.extras["signature"] == "serving_default"
    assert list(found.extras["otherSignatures"]) == ["train"]


def test_without_a_default_the_first_signature_that_serves_is_taken(read: Reader) -> None:
    graph = [tf.node("p", "Placeholder", [])]
    signatures = [
        tf.signature("__saved_model_train_op", [], []),
        tf.signature("predict", [tf.info("a", "p:0", 1)], [tf.info("b", "p:0", 1)]),
    ]
    found = read("SavedModel", {"saved_model.pb": tf.saved_model(signatures, graph)})
    assert found.extras["signature"] == "predict"


def test_a_saved_model_without_signature_says_so(read: Reader) -> None:
    found = read("SavedModel", {"saved_model.pb": tf.saved_model([], [tf.node("p", "Placeholder", [])])})
    assert found.inputs == ()
    assert "no signature" in found.absent[0]


def test_a_signature_that_names_a_node_that_is_not_there_is_refused(read: Reader) -> None:
    signatures = [tf.signature("serving_default", [], [tf.info("y", "nowhere:0", 1)])]
    with pytest.raises(ExtractionFailed, match="nowhere"):
        read("SavedModel", {"saved_model.pb": tf.saved_model(signatures, [tf.node("p", "Placeholder", [])])})
