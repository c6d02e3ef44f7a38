"""What a client sends: shared, local and frozen tensors, and the algorithms' own vectors."""

from __future__ import annotations

import pytest

from catchment.errors import InvalidField
from catchment.models.signature import TensorInfo
from catchment.strategies.vectors import partition, sent_signature

WEIGHTS = {
    "fc.weight": TensorInfo("F32", (3, 2)),
    "fc.lora_a": TensorInfo("BF16", (3, 1)),
    "bn.mean": TensorInfo("F32", (3,)),
    "bn.num": TensorInfo("I64", ()),
}


def test_without_patterns_every_tensor_is_shared() -> None:
    assert partition({}, WEIGHTS) == (list(WEIGHTS), [], [])


def test_local_tensors_stay_and_the_rest_is_shared() -> None:
    shared, local, frozen = partition({"local": ["bn.*"]}, WEIGHTS)
    assert (shared, local, frozen) == (["fc.weight", "fc.lora_a"], ["bn.mean", "bn.num"], [])


def test_what_is_neither_shared_nor_local_is_frozen() -> None:
    shared, local, frozen = partition({"shared": ["*.lora_*"], "local": ["bn.*"]}, WEIGHTS)
    assert (shared, local, frozen) == (["fc.lora_a"], ["bn.mean", "bn.num"], ["fc.weight"])


@pytest.mark.parametrize(
    ("params", "field"), [({"shared": ["adapter.*"]}, "shared"), ({"local": ["conv*"]}, "local")]
)
def test_a_pattern_that_fits_nothing_is_refused(params: dict[str, list[str]], field: str) -> None:
    with pytest.raises(InvalidField, match=f"strategy.params.{field}"):
        partition(params, WEIGHTS)


def test_keeping_everything_local_is_refused() -> None:
    with pytest.raises(InvalidField, match="no tensor of the model would be shared"):
        partition({"local": ["*"]}, WEIGHTS)


def test_scaffold_sends_a_control_for_each_float_tensor_in_the_updates_precision() -> None:
    sent = sent_signature(WEIGHTS, algorithm="scaffold")
    assert sent["@control/fc.lora_a"] == TensorInfo("F32", (3, 1))
    assert "@control/bn.num" not in sent
    assert len(sent) == 7


def test_fednova_sends_its_number_of_steps() -> None:
    sent = sent_signature(WEIGHTS, strategy={"shared": ["fc.*"]}, algorithm="fednova")
    assert list(sent) == ["fc.weight", "fc.lora_a", "@num_steps"]
