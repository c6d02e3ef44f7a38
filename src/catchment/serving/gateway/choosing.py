"""Which server gets a request: a workload by weight, of its servers the one with the fewest open requests."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence

from catchment.serving.gateway.table import Place, Route, Table, Target

ASIDE_S = 1.0
"""A server that failed is not asked for so long while there is another."""


class Balance:
    """How busy servers are, and who failed lately; used by one thread.

    Args:
        generator: draws of weights and ties come from it.
        clock: seconds, monotonic.
    """

    def __init__(self, generator: random.Random, clock: Callable[[], float] = time.monotonic) -> None:
        self._generator = generator
        self._clock = clock
        self._open: dict[Place, int] = {}
        self._aside: dict[Place, float] = {}

    def choose(self, route: Route, tried: Collection[Place] = ()) -> Place | None:
        """The server for the next try; None when there is no other that takes traffic.

        A second try stays with the workload of the last one while it has another server; then the weights
        decide among the others. What takes no traffic is never asked.
        """
        if not tried:
            targets = route.open
        else:
            rest = [(each, self._untried(each, tried)) for each in route.open]
            targets = [each for each, places in rest if places]
            last = list(tried)[-1].key
            targets = [each for each in targets if each.key == last] or targets
        if self._aside:
            # Whoever failed lately comes last, and still before nobody.
            targets = [each for each in targets if self._sound(each.places, tried)] or targets
        target = pick(targets, self._generator)
        if target is None:
            return None
        if not tried and not self._aside:
            return self._least_busy(target.places)
        return self._least_busy(self._sound(target.places, tried) or self._untried(target, tried))

    def of(self, target: Target) -> Place:
        """The least busy server of a workload, which must have one."""
        return self._least_busy(self._sound(target.places, ()) or target.places)

    def begin(self, place: Place) -> None:
        """A request goes there."""
        self._open[place] = self._open.get(place, 0) + 1

    def end(self, place: Place) -> None:
        """It is over."""
        left = self._open.get(place, 0) - 1
        if left > 0:
            self._open[place] = left
        else:
            self._open.pop(place, None)

    def failed(self, place: Place) -> bool:
        """The server did not answer as it should: leave it alone for a while. Whether that is news."""
        news = place not in self._aside
        self._aside[place] = self._clock() + ASIDE_S
        return news

    def succeeded(self, place: Place) -> None:
        """It answers."""
        if self._aside:
            self._aside.pop(place, None)

    def open_at(self, place: Place) -> int:
        """How many requests are there."""
        return self._open.get(place, 0)

    def forget(self, table: Table) -> None:
        """Drop what is known of servers that are gone."""
        if self._aside:
            here = set(table.places())
            self._aside = {place: until for place, until in self._aside.items() if place in here}

    def _untried(self, target: Target, tried: Collection[Place]) -> list[Place]:
        return [each for each in target.places if each not in tried]

    def _sound(self, places: Sequence[Place], tried: Collection[Place]) -> list[Place]:
        now = self._clock()
        return [each for each in places if each not in tried and self._aside.get(each, now) <= now]

    def _least_busy(self, places: Sequence[Place]) -> Place:
        if len(places) == 1:
            return places[0]
        least = min(self._open.get(each, 0) for each in places)
        idle = [each for each in places if self._open.get(each, 0) == least]
        return idle[0] if len(idle) == 1 else self._generator.choice(idle)


def pick(targets: Sequence[Target], generator: random.Random) -> Target | None:
    """One of the targets, each as often as its weight says among them; None when there is none."""
    if len(targets) < 2:
        return targets[0] if targets else None
    drawn = generator.random() * sum(each.weight for each in targets)
    for each in targets:
        drawn -= each.weight
        if drawn < 0:
            return each
    return targets[-1]  # rounding
