"""The graph of masks: regular, symmetric, connected after losses, and not of anybody's choice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.secagg.graph import Graph
from tests.secure_parties import names_of


@given(st.integers(2, 60), st.sampled_from([None, 2, 4, 6, 10, 100]), st.binary(min_size=1, max_size=8))
def test_it_is_regular_and_symmetric(count: int, degree: int | None, seed: bytes) -> None:
    names = names_of(count)
    graph = Graph(names, degree, seed)
    around = {name: graph.of(name) for name in names}
    expected = count - 1 if degree is None else min(degree, count - 1)
    assert {len(set(peers)) for peers in around.values()} == {expected}
    assert all(name in around[peer] for name, peers in around.items() for peer in peers)
    assert all(name not in peers and list(peers) == sorted(peers) for name, peers in around.items())


@given(st.binary(min_size=1, max_size=4))
def test_it_stays_connected_when_any_three_of_degree_four_are_gone(seed: bytes) -> None:
    names = names_of(9)
    graph = Graph(names, 4, seed)
    for gone in itertools.combinations(names, 3):
        left = set(names) - set(gone)
        seen, todo = set(), [min(left)]
        while todo:
            name = todo.pop()
            seen.add(name)
            todo += [peer for peer in graph.of(name) if peer in left and peer not in seen]
        assert seen == left


def test_the_seed_decides() -> None:
    names = names_of(50)
    one = [Graph(names, 6, b"one").of(name) for name in names]
    assert one == [Graph(names[::-1], 6, b"one").of(name) for name in names]
    assert one != [Graph(names, 6, b"two").of(name) for name in names]


@pytest.mark.parametrize("degree", [0, 1, 3, -2])
def test_an_odd_or_too_small_degree_is_refused(degree: int) -> None:
    with pytest.raises(ValueError, match="degree"):
        Graph(names_of(5), degree, b"")


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Graph(["a", "a"], None, b"")
