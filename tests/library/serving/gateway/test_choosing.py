"""Weights, the fewest open requests, and who is asked after a failure."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from catchment.serving.gateway.choosing import ASIDE_S, Balance, pick
from catchment.serving.gateway.table import Place, Route, Target

WEIGHTS = st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any)


def target(key: str, weight: int, replicas: int = 1, revision: int = 1) -> Target:
    places = tuple(Place("u", key, replica, "h", 1000 + replica) for replica in range(replicas))
    return Target(key, weight, revision, "default", places)


def route(*targets: Target) -> Route:
    return Route("u", "default", "m", frozenset({"m"}), targets)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(WEIGHTS, st.integers(0, 2**32))
def test_targets_are_picked_as_often_as_their_weights_say(weights: list[int], seed: int) -> None:
    targets = [target(str(index), weight) for index, weight in enumerate(weights) if weight]
    generator, draws = random.Random(seed), 2000
    counts = Counter(found.key for _ in range(draws) if (found := pick(targets, generator)))
    assert sum(counts.values()) == draws
    for each in targets:
        share = each.weight / sum(weights)
        assert abs(counts[each.key] - draws * share) <= 6 * math.sqrt(draws * share * (1 - share)) + 1


@given(WEIGHTS, st.integers(0, 2**32))
def test_a_target_without_weight_or_servers_is_never_asked(weights: list[int], seed: int) -> None:
    targets = [target(str(index), weight, replicas=index % 3) for index, weight in enumerate(weights)]
    found = Balance(random.Random(seed)).choose(route(*targets))
    open_targets = {each.key for each in targets if each.weight and each.places}
    assert (found is None) == (not open_targets)
    assert found is None or found.key in open_targets


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(0, 2**32))
def test_tries_reach_every_server_once_and_those_of_the_same_workload_first(
    replicas: list[int], seed: int
) -> None:
    targets = [target(str(index), 10 + index, count) for index, count in enumerate(replicas)]
    balance, tried = Balance(random.Random(seed)), []
    while (place := balance.choose(route(*targets), tried)) is not None:
        tried.append(place)
        balance.failed(place)
    assert sorted(tried) == sorted(place for each in targets for place in each.places)
    keys = [place.key for place in tried]
    assert len([1 for one, other in pairwise(keys) if one != other]) == len(targets) - 1


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 2**32))
def test_the_server_with_the_fewest_requests_is_asked(ends: list[bool], seed: int) -> None:
    generator = random.Random(seed)
    balance, served = Balance(generator), route(target("a", 100, 3))
    open_at: list[Place] = []
    for ended in ends:
        if ended and open_at:
            balance.end(open_at.pop(generator.randrange(len(open_at))))
            continue
        place = balance.choose(served)
        assert place is not None
        counts = Counter(open_at)
        assert counts[place] == min(counts[each] for each in served.targets[0].places)
        balance.begin(place)
        open_at.append(place)
    assert all(balance.open_at(place) == count for place, count in Counter(open_at).items())


def test_a_server_that_failed_is_left_alone_for_a_while_unless_it_is_the_only_one() -> None:
    clock = Clock()
    balance = Balance(random.Random(1), clock)
    two = route(target("a", 100, 2))
    first, second = two.targets[0].places
    balance.failed(first)
    assert {balance.choose(two) for _ in range(50)} == {second}
    balance.failed(second)
    assert balance.choose(two) is not None
    clock.now += ASIDE_S
    assert {balance.choose(two) for _ in range(50)} == {first, second}


def test_a_workload_whose_servers_failed_gives_its_share_to_the_others() -> None:
    balance = Balance(random.Random(1), Clock())
    both = route(target("a", 50), target("b", 50))
    balance.failed(both.targets[0].places[0])
    assert {found.key for _ in range(50) if (found := balance.choose(both))} == {"b"}
    balance.succeeded(both.targets[0].places[0])
    assert {found.key for _ in range(50) if (found := balance.choose(both))} == {"a", "b"}
