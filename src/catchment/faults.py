"""Named points at which a fault can be injected: a test arms one, and the process that reaches it is killed.

Nothing happens unless CATCHMENT_FAULT_DIR names a folder. A file there named like a point kills, once,
the first process that reaches the point, with SIGKILL: no handler runs, nothing is flushed, as when a
machine dies.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

FOLDER_VARIABLE = "CATCHMENT_FAULT_DIR"
POINTS = (
    "after_select",
    "in_broadcast",
    "mid_broadcast",
    "after_broadcast",
    "after_publish",
    "after_shares",
    "mid_upload",
    "after_result",
    "after_admission",
    "after_survivors",
    "after_request",
    "in_aggregate",
    "mid_aggregate",
    "before_commit",
    "mid_commit",
    "after_commit",
    "mid_checkpoint",
    "in_finish",
    "mid_finish",
    "after_finish",
    "before_finish",
    "site_after_download",
    "site_after_training",
    "site_mid_upload",
)
"""All points, in the order of a round; `in_` a function of the job's extenders: while its process runs."""

MODEL_POINTS = ("mid_copy", "before_ready")
"""Points on the way of a model version's bytes: copied or hashed, not kept; kept, not ready."""
MODEL_JOB_POINTS = ("after_pull", "after_extract", "after_convert", "after_verify", "after_push")
"""Points after each step of a ModelJob."""
ROLLOUT_POINTS = (
    "after_resolve",
    "after_apply",
    "after_ready",
    "after_smoke",
    "after_shift",
    "after_promote",
    "after_rollback",
)
"""Points after each step of a rollout; `after_rollback`: the traffic is back, the rollout has not ended."""
RETRAIN_POINTS = ("after_job_created", "after_graft", "after_converted", "after_rollout_made")
"""Points after what each step of a retraining makes."""
_ALL = frozenset((*POINTS, *MODEL_POINTS, *MODEL_JOB_POINTS, *ROLLOUT_POINTS, *RETRAIN_POINTS))


def reach(point: str) -> None:
    """Die here if a test wants it so."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    assert point in _ALL, point  # noqa: S101 - a misspelt point would never be armed
    try:
        (Path(folder) / point).unlink()  # one process alone can do this, so a fault fires once
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
