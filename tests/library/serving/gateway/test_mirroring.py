"""Which versions are compared."""

from __future__ import annotations

from catchment.serving.gateway.mirroring import pair_of
from catchment.serving.gateway.table import Place, Route, Target


def target(key: str, revision: int, weight: int, *, predictor: str = "a", ready: bool = True) -> Target:
    places = (Place("u", key, 0, "h", 1),) if ready else ()
    return Target(key, weight, revision, predictor, places)


def keys(key: str, *targets: Target, rolling: bool = False) -> tuple[str, str] | None:
    pair = pair_of(Route("u", "n", "m", frozenset(), targets, rolling), key)
    return None if pair is None else (pair.stable.key, pair.canary.key)


def test_two_revisions_with_traffic_are_compared() -> None:
    both = target("a-r1", 1, 80), target("a-r2", 2, 20)
    assert keys("a-r1", *both) == keys("a-r2", *both) == ("a-r1", "a-r2")


def test_a_canary_without_traffic_is_compared_while_a_rollout_is_under_way() -> None:
    both = target("a-r1", 1, 100), target("a-r2", 2, 0)
    assert keys("a-r1", *both, rolling=True) == ("a-r1", "a-r2")
    assert keys("a-r1", *both) is None


def test_a_canary_that_is_not_ready_is_not_compared() -> None:
    both = target("a-r1", 1, 100), target("a-r2", 2, 0, ready=False)
    assert keys("a-r1", *both, rolling=True) is None


def test_predictors_of_one_revision_are_not_compared() -> None:
    both = target("a-r1", 1, 50), target("b-r1", 1, 50, predictor="b")
    assert keys("a-r1", *both) is None


def test_a_canary_is_compared_with_its_own_predictor() -> None:
    every = (
        *(target("a-r1", 1, 30), target("b-r1", 1, 60, predictor="b")),
        *(target("a-r2", 2, 5), target("b-r2", 2, 5, predictor="b")),
    )
    assert keys("a-r1", *every) == keys("a-r2", *every) == ("a-r1", "a-r2")
    assert keys("b-r2", *every) == ("b-r1", "b-r2")


def test_a_version_on_its_way_out_is_left_alone() -> None:
    every = target("a-r1", 1, 0), target("a-r2", 2, 90), target("a-r3", 3, 10)
    assert keys("a-r2", *every) == ("a-r2", "a-r3")
    pair = pair_of(Route("u", "n", "m", frozenset(), every, rolling=True), "a-r1")
    assert pair is not None
    assert pair.other("a-r1") is None
