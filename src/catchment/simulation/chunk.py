"""A chunk of simulated clients: their works, done one after the other in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from catchment.simulation.client import Clients, scratch_folder
from catchment.simulation.data import DataParts
from catchment.simulation.fleet import deliver, orders
from catchment.store import Store

DELIVERED_AT_A_TIME = 250
"""Results that one transaction writes down: what is lost when a process dies, and done again."""


class Worker:
    """What a process keeps between chunks: a scratch folder with the scripts that were unpacked."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._stack = ExitStack()
        self._clients = Clients(store, self._stack.enter_context(scratch_folder(store)))

    def run(self, uid: str, ids: Sequence[str], data: Mapping[str, str]) -> int:
        """Do these works and deliver their results; how many counted. Works that are over are skipped.

        Args:
            uid: of the job that all works belong to.
            ids: of the works.
            data: data set name -> shell pattern of its parts (DataParts).
        """
        parts, counted = DataParts(dict(data)), 0
        for start in range(0, len(ids), DELIVERED_AT_A_TIME):
            some = orders(self.store, ids[start : start + DELIVERED_AT_A_TIME])
            results = [(order.work_id, self._clients.run(site, order, parts)) for site, order in some]
            counted += deliver(self.store, uid, results)
        return counted

    def close(self) -> None:
        """Remove the scratch folder."""
        self._stack.close()
