"""`python -m flows.simulate_job JOB.json --clients N`: what `catchment simulate` runs in the project."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from catchment.errors import CatchmentError
from catchment.jobs import lifecycle, namespaces
from catchment.simulation import inputs
from flows.simulate import simulate
from tasks.store import process_store


def main() -> int:
    """Bring the job into the store, simulate it, print its rounds; 0 when it finished."""
    options = _parser().parse_args()
    try:
        return _simulated(options)
    except CatchmentError as error:
        print(f"simulation failed: {error}", file=sys.stderr)
        return 1


def _simulated(options: argparse.Namespace) -> int:
    store = process_store()
    body, dropped = inputs.read_job_file(options.job)
    for field in dropped:
        print(f"{field} speaks of real sites; it is left out here", file=sys.stderr)
    job_id = str(body.get("id"))
    namespaces.create(store, options.namespace)
    if options.own_home:
        inputs.release_lost(store, options.namespace, job_id)
    inputs.bring_job(store, options.namespace, body, options.root)
    if options.fresh:
        lifecycle.request_start(store, options.namespace, job_id, fresh=True)
    state = asyncio.run(
        simulate(job_id, options.clients, options.namespace, dict(options.data), return_state=True)
    )
    job = lifecycle.get_job(store, options.namespace, job_id)
    for report in lifecycle.job_rounds(store, options.namespace, job_id):
        told = {key: report[key] for key in ("round", "state", "seconds", "training_metrics", "metrics")}
        print(json.dumps(told))
    if job["status"]["state"] != "FINISHED":
        reason = job["status"]["reason"] or state.message
        print(f"job {job_id} is {job['status']['state']}: {reason}", file=sys.stderr)
        return 1
    for name, checkpoint in job["checkpoints"].items():
        print(json.dumps({"checkpoint": name, **checkpoint}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.simulate_job", description=__doc__)
    parser.add_argument("job", type=Path, help="JSON file of the job")
    parser.add_argument("--clients", type=int, required=True, help="how many simulated clients")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--root", type=Path, required=True, help="folder that the job's paths start from")
    parser.add_argument("--data", type=_pair, action="append", default=[], metavar="NAME=PATTERN")
    parser.add_argument("--fresh", action="store_true", help="begin a new run")
    parser.add_argument("--own-home", action="store_true", help="nobody else drives jobs of this store")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    if not (name and equals and pattern):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATTERN")
    return name, pattern


if __name__ == "__main__":
    sys.exit(main())
