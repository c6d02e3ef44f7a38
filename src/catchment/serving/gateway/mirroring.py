"""Which requests two versions are asked, while one takes the place of the other."""

from __future__ import annotations

from typing import NamedTuple

from catchment.serving.gateway.table import Route, Target


class Pair(NamedTuple):
    """Two versions that are compared."""

    stable: Target
    canary: Target

    def other(self, key: str) -> Target | None:
        """The one that did not answer; None where a third did."""
        if key == self.canary.key:
            return self.stable
        return self.canary if key == self.stable.key else None


def pair_of(route: Route, key: str) -> Pair | None:
    """The versions to compare for a request that the workload `key` has answered; None outside of rollouts.

    A rollout is live while two revisions take traffic, or while one is under way and its servers are ready.
    The canary is the newest revision; it is compared with the older workload of its predictor that takes the
    most traffic, or of all of them where the predictor is new.
    """
    ready = [each for each in route.targets if each.places]
    revisions = {each.revision for each in ready if each.weight > 0 or route.rolling}
    if len(revisions) < 2 or not any(each.weight > 0 for each in ready):
        return None
    newest = max(revisions)
    answering = next((each for each in ready if each.key == key), None)
    if answering is None:
        return None
    canaries = [each for each in ready if each.revision == newest and (each.weight > 0 or route.rolling)]
    stables = [each for each in ready if each.revision < newest and (each.weight > 0 or route.rolling)]
    same = [each for each in canaries if each.predictor == answering.predictor] or canaries
    canary = answering if answering.revision == newest else max(same, key=lambda each: each.weight)
    of_canary = [each for each in stables if each.predictor == canary.predictor] or stables
    stable = max(of_canary, key=lambda each: each.weight)
    return Pair(stable, canary)
