"""A process's lease on what it works on: renewed by a thread, watched for a stop."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Row

from catchment.errors import CatchmentError
from catchment.store import Store
from catchment.store.database import Transaction

log = logging.getLogger(__name__)
BEGIN_S = 15.0
"""A run that Prefect has just called running claims its thing within so long, or its process was lost."""


def is_over(tx: Transaction, row: Row[Any], lease_s: float) -> bool:
    """Whether no process works on a row's thing any more: it has no lease, or has not renewed it."""
    longest_s = max(lease_s, BEGIN_S)
    return row.lease_until == 0.0 or tx.has_passed(row.lease_until - longest_s, longest_s)


@contextlib.contextmanager
def kept(store: Store, named: str, renew: Callable[[Transaction], bool]) -> Iterator[None]:
    """Call `renew` from a thread for the time of a `with` block, until it says that the lease is lost."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(store.settings.job_lease_s / 4):
            try:
                if not store.db.write(renew):
                    log.warning("%s the lease is not ours any more", named)
                    return
            except CatchmentError as error:
                # Every write of the run checks the lease itself, so a missed renewal can lose only time.
                log.warning("%s lease not renewed: %s", named, error)

    thread = threading.Thread(target=keep, name=f"lease-{named}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


@contextlib.contextmanager
def stop_watched(
    store: Store, named: str, topic: str, check: Callable[[Transaction], object]
) -> Iterator[threading.Event]:
    """An event that is set as soon as `check` raises: looked at when the topic is heard, and every 5 s."""
    stop, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            ticket = store.db.signals.ticket(topic)
            try:
                store.db.write(check)
            except CatchmentError as error:
                log.info("%s stops: %s", named, error)
                stop.set()
                return
            store.db.signals.wait(ticket, 5.0)

    thread = threading.Thread(target=watch, name=f"watch-{named}", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        over.set()
        store.db.signals.arrived({topic})
        thread.join(timeout=5)
