"""The gate: better by the margin, and what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.retraining.gate import compared, is_better
from catchment.retraining.plan import RetrainGate

NUMBERS = st.floats(-1e6, 1e6)


@given(old=NUMBERS, new=NUMBERS, margin=st.floats(0, 1e3))
def test_a_loss_is_judged_as_its_negative(old, new, margin):
    up = RetrainGate(margin=margin)
    down = RetrainGate(margin=margin, higher_is_better=False)
    assert is_better(up, old, new) == is_better(down, -old, -new)


@given(old=NUMBERS, margin=st.floats(0, 1e3))
def test_what_is_equal_is_never_better(old, margin):
    assert not is_better(RetrainGate(margin=margin), old, old)


def test_the_margin_itself_is_enough_whatever_floats_make_of_it():
    assert is_better(RetrainGate(margin=0.01), 0.95, 0.96)
    assert is_better(RetrainGate(margin=0.1), 0.2, 0.3)


@pytest.mark.parametrize(
    ("gate", "old", "new", "against", "passes", "reason"),
    [
        ({"margin": 0.01}, 0.95, 0.93, "d/m:v1", False, "kept: accuracy 0.93 < 0.95 + 0.01"),
        ({"margin": 0.01}, 0.95, 0.97, "d/m:v1", True, "accuracy 0.97 >= 0.95 + 0.01"),
        ({}, 0.95, 0.95, "d/m:v1", False, "kept: accuracy 0.95 is no better than 0.95"),
        (
            {"metric": "loss", "higher_is_better": False, "margin": 0.1},
            *(0.5, 0.45, "d/m:v1", False, "kept: loss 0.45 > 0.5 - 0.1"),
        ),
        ({}, None, 0.5, "", True, "accuracy 0.5; nothing serves yet, so there is nothing to be better than"),
        (
            {},
            *(None, 0.5, "d/m:v1", False),
            "kept: nothing is known of accuracy of d/m:v1; gate.baseline says what it is taken for",
        ),
        ({}, 0.5, None, "d/m:v1", False, "kept: no site has evaluated accuracy of the new version"),
        ({}, 0.5, float("nan"), "d/m:v1", False, "kept: no site has evaluated accuracy of the new version"),
    ],
)
def test_the_verdict_is_a_sentence(gate, old, new, against, passes, reason):
    verdict = compared(RetrainGate.model_validate(gate), old, new, against)
    assert (verdict.passes, verdict.reason) == (passes, reason)
