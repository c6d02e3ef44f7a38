"""What the environment of each process of the stack holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from catchment.faults import FOLDER_VARIABLE
from catchment.stack.options import StackOptions

FOR_SITES = {FOLDER_VARIABLE, "CATCHMENT_LOG_FORMAT", "CATCHMENT_OTLP_ENDPOINT"}
"""What a local site takes over of our own settings."""
FOREIGN_PREFECT = {"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE"}
"""Would send our processes to somebody else's Prefect server."""
EVENTS_KEPT = "P1D"
"""Prefect keeps an event for every state change; a day of them is enough for its UI."""


PREFECT_BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
}
"""Task runs are written together, once a second, and not each change of state by itself: so much later the UI
shows them."""


def inherited() -> dict[str, str]:
    """Our own environment without secrets and addresses meant for other commands."""
    dropped = FOREIGN_PREFECT | {"CATCHMENT_TOKEN", "CATCHMENT_SERVER", "VIRTUAL_ENV_PROMPT"}
    return {name: value for name, value in os.environ.items() if name not in dropped} | {
        "PYTHONUNBUFFERED": "1"
    }


def for_prefect_server(options: StackOptions, database_url: str) -> dict[str, str]:
    """The Prefect server: its database, nothing sent anywhere, its UI told where its API is.

    PREFECT_API_DATABASE_CONNECTION_URL of our own environment wins over `database_url`.
    """
    return {
        "PREFECT_API_DATABASE_CONNECTION_URL": database_url,
        **PREFECT_BATCHES,
        **inherited(),
        **_prefect(options),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": f"{options.prefect_url}/api",
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": EVENTS_KEPT,
    }


def for_coordinator(options: StackOptions, project: Path, database_url: str) -> dict[str, str]:
    """The API and the flow runner: Catchment's settings, where the Prefect server is, our project's code."""
    settings = {
        "CATCHMENT_HOME": str(options.home),
        "CATCHMENT_DATABASE_URL": database_url,
        "CATCHMENT_AUTH": "loopback" if options.loopback else "tokens",
        "CATCHMENT_PREFECT_UI_URL": options.prefect_url,
        "CATCHMENT_PROJECT": str(project),
    }
    # Each round is aggregated in another thread; with a heap for each thread the memory of all stays taken.
    settings["MALLOC_ARENA_MAX"] = os.environ.get("MALLOC_ARENA_MAX", "1")
    # What happened in a round is told at INFO, and belongs to the run that the UI shows.
    settings["PREFECT_LOGGING_LEVEL"] = os.environ.get("PREFECT_LOGGING_LEVEL", "INFO")
    if options.storage_url:
        settings["CATCHMENT_STORAGE_URL"] = options.storage_url
    return {**_with_path(inherited(), project), **_prefect(options), **settings}


def for_site() -> dict[str, str]:
    """A site's agent: nothing of the coordinator's, as on a machine of its own."""
    return {
        name: value
        for name, value in inherited().items()
        if name in FOR_SITES or not name.startswith(("CATCHMENT_", "PREFECT_"))
    }


def _prefect(options: StackOptions) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(options.home / "prefect"),
        "PREFECT_API_URL": f"{options.prefect_url}/api",
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "WARNING"),
        "PREFECT_SERVER_LOGGING_LEVEL": os.environ.get("PREFECT_SERVER_LOGGING_LEVEL", "WARNING"),
        "DO_NOT_TRACK": "1",
    }


def _with_path(environment: Mapping[str, str], project: Path) -> dict[str, str]:
    paths = [str(project), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}
