"""`make demo`: start the system, train the digits job over its REST API, serve its model, read digits."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from make_initial import make_initial
from plot import save_plot
from serve import serve

from catchment.cli.watching import follow
from catchment.client import Client, Job, Round
from catchment.errors import CatchmentError, SetupError
from catchment.stack.bound import bound_command
from catchment.stack.home import locked, make_home

HERE = Path(__file__).resolve().parent
SCRIPTS = ("train.py", "evaluate.py", "model.py", "config.json")
WANTED_ACCURACY = 0.93
STOP_TIMEOUT_S = 20.0


def main() -> int:
    """Run the demo; the exit code is 0 only when the model is good enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder for all that it makes"
    )
    parser.add_argument("--keep", action="store_true", help="leave the system up until Ctrl-C")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end_as_by_ctrl_c)
    try:
        home = fresh_home(options.output.absolute() / "home")
        with system(home) as server, Client(server) as client:
            good = train(client, home, options.output.absolute()) and serve(client, home)
            if options.keep:
                print("\nThe system stays up; Ctrl-C ends it.", flush=True)
                signal.pause()
    except KeyboardInterrupt:
        return 130
    except CatchmentError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0 if good else 1


def fresh_home(home: Path) -> Path:
    """An empty home folder with the job's scripts and initial weights in it."""
    if home.exists():
        with locked(home):  # raises when the last demo still runs on it
            shutil.rmtree(home)
    folder = make_home(home) / "namespaces" / "default" / "digits"
    (folder / "scripts").mkdir(parents=True)
    for name in SCRIPTS:
        shutil.copy(HERE / name, folder / "scripts" / name)
    make_initial(folder / "initial.safetensors")
    return home


@contextmanager
def system(home: Path) -> Iterator[str]:
    """Run `catchment up` on free ports; the address of its API. All of it is gone when the context ends."""
    print(
        "Starting PostgreSQL, the Prefect server, the API, a flow runner, a serving host and three sites ...",
        flush=True,
    )
    command = [sys.executable, "-m", "catchment.cli", "up", "--home", str(home)]
    up = subprocess.Popen(
        # It ends with this process even when that is killed, and has a session of its own so that
        # Ctrl-C reaches it once, from here.
        bound_command([*command, "--api-port", "0", "--prefect-port", "0"], signal.SIGTERM),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert up.stdout is not None
        line = up.stdout.readline()
        if not line.startswith("ready "):
            raise SetupError("the system did not start; see above")
        yield line.split()[1]
    finally:
        stop(up)


def stop(up: subprocess.Popen[str]) -> None:
    """Stop the system; one more Ctrl-C makes it hurry."""
    for _ in range(2):
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(STOP_TIMEOUT_S)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            continue
        return
    up.kill()  # its guard ends the rest
    up.wait()


def train(client: Client, home: Path, output: Path) -> bool:
    """Submit the job, show it until it ends, and report; whether the model is good enough."""
    job = json.loads((HERE / "job.json").read_text())
    job["register"] = {"name": "digits", "version": "weights"}
    client.create_job("default", job, start=True)
    page = client.version().run_page(client.get_job("default", job["id"]).flow_run_id)
    print(
        f"\nJob default/{job['id']} was submitted to {client.server}\nPrefect shows the run at {page}\n",
        flush=True,
    )
    ended = follow(client, "default", job["id"])
    rounds = client.rounds("default", job["id"])
    if ended.state != "FINISHED" or not ended.checkpoints:
        return False
    return report(ended, rounds, home, output, page)


def report(ended: Job, rounds: list[Round], home: Path, output: Path, page: str) -> bool:
    """Print what came out, save the plot; whether the model is good enough."""
    last = ended.checkpoints[-1]
    accuracy = last.accuracy or 0.0
    judged = max((one for one in rounds if one.metrics), key=lambda one: one.number)
    digits = judged.metrics.get("sample_num", "?")
    plot = save_plot([one for one in rounds if one.state == "committed"], output / "digits.png")
    print(f"\ntest accuracy  {accuracy:.4f} on {digits} digits that no site has trained on")
    print(f"checkpoint     {home / 'namespaces' / 'default' / last.path}")
    print(f"plot           {plot}")
    print(f"Prefect UI     {page}", flush=True)
    if accuracy < WANTED_ACCURACY:
        print(f"the accuracy should be at least {WANTED_ACCURACY}", file=sys.stderr)
    return accuracy >= WANTED_ACCURACY


def _end_as_by_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
