"""The REST client: what the `catchment` command, tests and people's own programs call."""

from catchment.client.client import Client
from catchment.client.results import Checkpoint, Job, Namespace, Round, Site, SiteOutcome, Version
from catchment.client.watching import JobChanged, Outage, RoundDone, WatchEvent, watch

__all__ = [
    "Checkpoint",
    "Client",
    "Job",
    "JobChanged",
    "Namespace",
    "Outage",
    "Round",
    "RoundDone",
    "Site",
    "SiteOutcome",
    "Version",
    "WatchEvent",
    "watch",
]
