"""When a server that has ended is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catchment.serving.host.restarts import (
    FAILED_AFTER,
    LONGEST_S,
    PORT_TAKEN,
    PORT_TRIES,
    UNUSABLE,
    UNUSABLE_LONGEST_S,
    Restarts,
)


def test_the_first_crash_is_followed_at_once_and_further_ones_ever_later() -> None:
    restarts = Restarts()
    verdicts = [restarts.after(-9, "") for _ in range(12)]
    pauses = [each.pause_s for each in verdicts]
    assert pauses[:5] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_S
    assert [each.failed for each in verdicts[:6]] == [False] * (FAILED_AFTER - 1) + [True, True]
    assert verdicts[0].message == "the model server was killed by signal 9 (Killed)"


def test_a_healthy_time_makes_crashes_forgotten() -> None:
    restarts = Restarts()
    for _ in range(9):
        restarts.after(1, "")
    restarts.healthy()
    verdict = restarts.after(1, "out of luck")
    assert (verdict.pause_s, verdict.failed) == (0.0, False)
    assert verdict.message == "the model server ended with exit code 1: out of luck"


def test_a_model_that_cannot_be_served_has_failed_at_once() -> None:
    restarts = Restarts()
    first = restarts.after(UNUSABLE, "no graph in it")
    assert (first.failed, first.message) == (True, "no graph in it")
    assert first.pause_s >= 5
    assert max(restarts.after(UNUSABLE, "").pause_s for _ in range(50)) == UNUSABLE_LONGEST_S


def test_a_taken_port_is_tried_again_at_once_but_not_for_ever() -> None:
    restarts = Restarts()
    verdicts = [restarts.after(PORT_TAKEN, "port taken") for _ in range(PORT_TRIES + FAILED_AFTER)]
    assert all(each.pause_s == 0 and not each.failed for each in verdicts[:PORT_TRIES])
    assert verdicts[-1].failed
    assert "port taken" in verdicts[-1].message


def test_the_hosts_own_reason_comes_first() -> None:
    assert Restarts().after(-6, "a stack", "the model server hung").message == "the model server hung"
    assert Restarts().after(UNUSABLE, "", "it hung").failed is False


def test_what_cannot_even_start_waits_a_moment() -> None:
    restarts = Restarts()
    verdict = restarts.could_not_start("no space left", for_good=False)
    assert verdict.pause_s > 0
    assert not verdict.failed
    assert restarts.could_not_start("the version is gone", for_good=True).failed


@given(st.lists(st.sampled_from([None, -11, -9, 0, 1, 2, 3, 4, 255]), max_size=300))
def test_pauses_are_bounded_whatever_happens(codes: list[int | None]) -> None:
    restarts = Restarts()
    for code in codes:
        verdict = restarts.after(code, "")
        assert 0 <= verdict.pause_s <= UNUSABLE_LONGEST_S


def test_days_of_crashes_overflow_nothing() -> None:
    restarts = Restarts()
    assert [restarts.after(1, "").pause_s for _ in range(5000)][-1] == LONGEST_S
