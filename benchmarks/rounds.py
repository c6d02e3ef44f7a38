"""Seconds per round of a deployed federated job, beside a plain loop that does the same.

    python benchmarks/rounds.py --workload digits [--sites 10] [--rounds 20] [--sqlite] [--json]

Everything runs as `catchment up` starts it: API, Prefect server, runner, PostgreSQL, and one agent process
for each site, whose scripts run isolated. CPU seconds are given by group of processes. Workloads:

    overhead  a 1 MB model and no training: what a round costs by itself
    digits    the example job: MLP on the bundled handwritten digits
    large     a 100 MB model and no training, with the memory of the servers
    start     from `:start` to the first line of the first training script; --rounds jobs one after another
    all       one after the other, each in a system of its own
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from system import GROUPS, Peaks, cpu_seconds, system, watched_memory  # noqa: E402
from workloads import EXAMPLE, TITLE, WARM_UP_ROUNDS, WORKLOADS, Workload  # noqa: E402

sys.path[:0] = [str(EXAMPLE)]

from catchment.client import Client  # noqa: E402

LOOK_S = 0.2
JOBS = "/api/v1/namespaces/default/jobs"


@dataclass(frozen=True)
class Line:
    """One measured value beside its floor."""

    workload: str
    metric: str
    value: float
    floor: float | None
    unit: str


def main() -> None:
    """Run workloads and print their lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=(*WORKLOADS, "all"), default="digits")
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--rounds", type=int, help="instead of the workload's own number")
    parser.add_argument("--sqlite", action="store_true", help="SQLite for the store and for Prefect")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    for name in WORKLOADS if options.workload == "all" else (options.workload,):
        with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
            for line in measure(WORKLOADS[name], options, Path(folder)):
                print(json.dumps(vars(line)) if options.json else _row(line), flush=True)


def _row(line: Line) -> str:
    floor = "" if line.floor is None else f"   floor {line.floor:9.3f}   ratio {line.value / line.floor:7.2f}"
    return f"{line.workload:9} {line.metric:38} {line.value:9.3f} {line.unit:6}{floor}"


def measure(workload: Workload, options: argparse.Namespace, folder: Path) -> list[Line]:
    """The deployed job and the floor, in one run on one machine."""
    count = options.rounds or workload.rounds
    with system(folder / "home", options.sites, sqlite=options.sqlite) as server, Client(server) as client:
        rounds = 1 if workload.name == "start" else count
        body = workload.prepare(folder / "home" / "namespaces" / "default", options.sites, rounds)
        name = f"{workload.name}-sqlite" if options.sqlite else workload.name
        if workload.name == "start":
            return _start_lines(name, client, server, body, count)
        with watched_memory() as peaks:
            client.create_job("default", body, start=True)
            cpu_s = watch_rounds(server, rounds)
        reports = _get(server, "bench/rounds")["rounds"]
    floor_s = workload.floor(workload, options.sites, rounds, folder)
    return [*_round_lines(name, reports, floor_s, cpu_s), *_memory_lines(name, workload, peaks)]


def watch_rounds(server: str, rounds: int) -> dict[str, float]:
    """Wait until the job has finished; CPU seconds per round by group, between two rounds in its middle."""
    marks: list[tuple[int, dict[str, float]]] = []
    deadline = time.monotonic() + 60 + 30 * rounds
    while (status := _get(server, "bench")["status"])["state"] != "FINISHED":
        if status["state"] in ("FAILED", "STOPPED") or time.monotonic() > deadline:
            raise SystemExit(f"the job is {status}")
        committed = -(-status["progress"] * rounds // 100)
        if committed >= min(WARM_UP_ROUNDS, rounds - 1) and (not marks or marks[-1][0] < committed):
            marks.append((committed, cpu_seconds()))
        time.sleep(LOOK_S)
    if len(marks) < 2:
        return {}
    (first, before), (last, after) = marks[0], marks[-1]
    return {group: (after[group] - before.get(group, 0.0)) / (last - first) for group in after}


def _get(server: str, path: str) -> Any:
    with urllib.request.urlopen(f"{server}{JOBS}/{path}", timeout=30) as answer:
        return json.load(answer)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _round_lines(
    name: str, reports: list[dict[str, Any]], floor_s: float, cpu_s: dict[str, float]
) -> list[Line]:
    began = [_seconds(report["started_at"]) for report in reports if report["state"] == "committed"]
    between = [after - before for before, after in itertools.pairwise(began)]
    steady = statistics.median(between[WARM_UP_ROUNDS:])
    shown = [group for group in (*GROUPS, "other") if group in cpu_s]
    return [
        Line(name, "seconds per round, median", round(steady, 4), round(floor_s, 4), "s"),
        Line(name, "seconds per round above the floor", round(steady - floor_s, 4), None, "s"),
        Line(name, "CPU per round, all processes", round(sum(cpu_s.values()), 3), None, "CPU s"),
        *(Line(name, f"CPU per round, {group}", round(cpu_s[group], 3), None, "CPU s") for group in shown),
    ]


def _memory_lines(name: str, workload: Workload, peaks: Peaks) -> list[Line]:
    """Memory of the servers over what they had at first, in models; nothing for a small model."""
    if workload.model_bytes < 50_000_000:
        return []
    lines = []
    for group in ("api", "flow"):
        resident, private = peaks.resident[group], peaks.private[group] - peaks.before[group]
        for words, value in (("resident, mapped files included", resident), ("own, over idle", private)):
            lines.append(
                Line(
                    name, f"peak of {group}: {words}", round(value / workload.model_bytes, 2), None, "models"
                )
            )
    return lines


def _start_lines(name: str, client: Client, server: str, body: dict[str, Any], jobs: int) -> list[Line]:
    """Seconds from the request to start to the first line of a training script, of several jobs."""
    seconds = []
    for number in range(jobs):
        job_id = f"bench-{number}"
        client.create_job("default", {**body, "id": job_id}, start=False)
        time.sleep(2.0)  # the system at rest
        begun = time.time()
        client.start_job("default", job_id)
        deadline = begun + 120
        while (status := _get(server, job_id)["status"])["state"] != "FINISHED":
            if status["state"] in ("FAILED", "STOPPED") or time.time() > deadline:
                raise SystemExit(f"the job is {status}")
            time.sleep(LOOK_S)
        lines = [line["text"] for line in _get(server, f"{job_id}/logs?limit=1000")["lines"]]
        told = [float(text.split()[-1]) for text in lines if text.startswith(TITLE)]
        seconds.append(min(told) - begun)
    return [
        Line(name, "start to the first training, first job", round(seconds[0], 3), None, "s"),
        Line(name, "start to the first training, median", round(statistics.median(seconds), 3), None, "s"),
        Line(name, "start to the first training, longest", round(max(seconds), 3), None, "s"),
    ]


if __name__ == "__main__":
    main()
