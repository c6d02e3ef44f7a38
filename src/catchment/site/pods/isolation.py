"""What a pod keeps a script from, as far as the agent can know it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from catchment.site.config import SiteConfig
from catchment.site.isolation import Isolator
from catchment.site.work import Work
from catchment.wire.messages import Isolation

NETWORK = "left to the cluster's network policies, which the agent cannot see"
USER = "it runs as the user of the pod template"


class PodIsolation(Isolator):
    """Every script is in a pod of its own, a sent one and the site's own alike; no sandbox is in it."""

    def applies_to(self, work: Work) -> bool:
        """Always: the script has the environment of an isolated one."""
        return True

    def sandbox_for(self, work: Work, folder: Path, datasets: Iterable[str], memory_mb: int) -> None:
        """None: the pod is it.

        Raises:
            PolicyRefused: the site requires what the agent cannot vouch for.
        """
        if work.order.scripts is not None or self.isolates_entries:
            self.check_required()


def pod_isolation(config: SiteConfig) -> PodIsolation:
    """What is reported: by its Job, a pod has files and processes of its own, and no privilege."""
    report = Isolation(
        mode=config.isolation,
        entries=True,
        files=True,
        processes=True,
        privileges=True,
        missing={"network": NETWORK, "user": USER},
    )
    return PodIsolation(report, isolates_entries=config.isolate_entries)
