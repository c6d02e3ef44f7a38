"""Traffic between the stable version and the new one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catchment.serving.traffic import split, weights

SHARES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 100), min_size=1, max_size=4
).filter(lambda parts: sum(parts.values()) > 0)


@given(parts=SHARES, percent=st.integers(0, 100))
def test_whole_percents_are_shared_out_without_loss(parts: dict[str, int], percent: int) -> None:
    shared = split(parts, percent)
    assert sum(shared.values()) == percent
    whole = sum(parts.values())
    assert all(abs(shared[key] - part * percent / whole) < 1 for key, part in parts.items())


@given(stable=SHARES, new=SHARES, percent=st.integers(0, 100))
def test_the_weights_are_always_a_hundred(stable: dict[str, int], new: dict[str, int], percent: int) -> None:
    named = {f"new-{key}": part for key, part in new.items()}
    found = weights(stable, named, percent)
    assert sum(found.values()) == 100
    assert sum(part for key, part in found.items() if key in named) == percent


def test_a_first_version_gets_everything_or_nothing() -> None:
    assert weights({}, {"a": 100}, 0) == {}
    assert weights({}, {"a": 60, "b": 40}, 5) == {"a": 60, "b": 40}


def test_going_back_gives_the_stable_version_all_of_it() -> None:
    assert weights({"old": 100}, {"new": 100}, 0) == {"old": 100}
    assert weights({"old": 100}, {"new": 100}, 100) == {"new": 100}
