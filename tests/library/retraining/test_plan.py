"""A plan says what is wrong with it, by the field's name."""

from __future__ import annotations

from uuid import uuid4

import pytest

from catchment.errors import InvalidField
from catchment.retraining import naming
from catchment.retraining.plan import parse

GOOD = {"job": {"template": "digits"}, "register_as": {"name": "digits"}}


def test_little_is_needed():
    plan = parse(GOOD, "lab")
    assert (plan.namespace, plan.serving, plan.gate.metric) == ("lab", None, "accuracy")
    assert plan.convert is not None


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"job": {}}, "job", "one of template"),
        ({"job": {"template": "a", "spec": {}}}, "job", "one of template"),
        ({"job": {"template": "A b"}}, "job.template", "pattern"),
        ({"job": {"template": "a", "rounds": 0}}, "job.rounds", "greater than or equal to 1"),
        ({"register_as": {}}, "register_as.name", "is required"),
        ({"register_as": {"name": "a", "version": "v7"}}, "register_as.version", "'time' or 'count'"),
        ({"gate": {"margin": -1}}, "gate.margin", "greater than or equal to 0"),
        ({"gates": {}}, "gates", "is not a field of this object"),
        ({"convert": {"to": "Abacus"}}, "convert.to", "Abacus"),
        ({"convert": {"to": "PMML"}}, "convert.to", "ONNX cannot become PMML"),
        ({"convert": {"options": {"speed": 9}}}, "convert.options.speed", "known: operation, opset"),
        ({"convert": {"options": {"opset": 99}}}, "convert.options.opset", "from 7 to 25"),
        ({"convert": {"options": {"backend": "torch"}}}, "convert.options.backend", "one that converts this"),
        ({"register_as": {"name": "a" * 255}}, "register_as.name", "at most 255 characters"),
        ({"convert": None, "serving": {"name": "a"}}, "body", "convert is required with serving"),
        ({"serving": {"name": "a", "canary": {"steps": [50, 5]}}}, "serving.canary", "steps must grow"),
        ({"namespace": "other"}, "namespace", "the path names 'lab'"),
    ],
)
def test_what_is_wrong_is_named(changes, field, words):
    with pytest.raises(InvalidField, match=words) as found:
        parse({**GOOD, **changes}, "lab")
    assert found.value.field == field


def test_runs_of_one_moment_have_names_of_their_own():
    runs = [str(uuid4()) for _ in range(100)]
    assert len({naming.child(run) for run in runs}) == 100
    with pytest.raises(InvalidField, match="no id of a flow run"):
        naming.child("retrain-1")
