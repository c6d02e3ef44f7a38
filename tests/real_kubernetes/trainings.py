"""The Job of a training, as the agent of a site makes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from catchment.site.launch_file import Launch
from catchment.site.limits import Limits
from catchment.site.pods.template import PodTemplate, Seen
from tests.deployments.conftest import SITE
from tests.kubernetes_double.objects import Object

HOME = Path("/var/lib/catchment/site")


def training(name: str, labels: Mapping[str, str]) -> Object:
    """Of the template that is deployed."""
    launch = Launch(
        argv=("python", "train.py"),
        script="",
        cwd="/",
        env={},
        rank_env=({},),
        timeout_s=60,
        limits=Limits(memory_mb=2000, data_mb=0, file_mb=1, threads=2),
    )
    seen = Seen((HOME / "work/one/task",), (), ())
    return PodTemplate.read(SITE / "jobs" / "pod.yaml", HOME).job(
        name, dict(labels), launch, seen, ["python"]
    )
