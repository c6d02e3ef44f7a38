"""The REST client: what the `catchment` command, tests and people's own programs call."""

from catchment.client.client import Client
from catchment.client.events import EventStream, LogEnd, LogLine, LogPage
from catchment.client.following import follow_logs
from catchment.client.model_job import ModelJob
from catchment.client.results import (
    Checkpoint,
    Job,
    Namespace,
    Outage,
    Round,
    Site,
    SiteOutcome,
    Version,
)
from catchment.client.watching import JobChanged, RoundDone, WatchEvent, watch

__all__ = [
    "Checkpoint",
    "Client",
    "EventStream",
    "Job",
    "JobChanged",
    "LogEnd",
    "LogLine",
    "LogPage",
    "ModelJob",
    "Namespace",
    "Outage",
    "Round",
    "RoundDone",
    "Site",
    "SiteOutcome",
    "Version",
    "WatchEvent",
    "follow_logs",
    "watch",
]
