"""Run jobs of an example one after the other on a fresh system, and draw their accuracies."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

DIGITS = Path(__file__).resolve().parent / "digits"
SITE_DIGITS = DIGITS.parent / "site_digits.py"
sys.path.insert(0, str(DIGITS))

from demo import system  # noqa: E402

from catchment.cli.watching import follow  # noqa: E402
from catchment.client import Client  # noqa: E402
from catchment.errors import CatchmentError, RoundFailed  # noqa: E402
from catchment.stack.home import locked, make_home  # noqa: E402

Curves = dict[str, list[float]]


def run_example(
    name: str,
    files: Sequence[Path],
    initial: Callable[[Path], object],
    jobs: Mapping[str, Mapping[str, Any]],
    judge: Callable[[Curves], bool],
) -> int:
    """Run the jobs on `catchment up`'s three sites; the exit code of the example.

    Args:
        name: of the example, for folders and job ids.
        files: the scripts.
        initial: writes the initial weights to a path.
        jobs: title of a curve -> fields of the job that differ from the others'.
        judge: whether the accuracies, round by round, are as good as they should be.
    """
    parser = argparse.ArgumentParser(description=f"The example {name}.")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder for all that it makes"
    )
    parser.add_argument(
        "--rounds", type=int, default=None, help="so many rounds; the result is shown, and not judged"
    )
    options = parser.parse_args()
    output = options.output.absolute()
    signal.signal(signal.SIGTERM, _end_as_by_ctrl_c)
    try:
        home = _fresh_home(output / f"{name}-home", name, files, initial)
        curves: Curves = {}
        with system(home) as server, Client(server) as client:
            for number, (title, fields) in enumerate(jobs.items(), start=1):
                job = {**json.loads((DIGITS / "job.json").read_text()), **_paths(name), **fields}
                if options.rounds is not None:
                    job["hyper_parameters"] = {**job["hyper_parameters"], "max_round_num": options.rounds}
                curves[title] = _accuracies(client, {**job, "id": f"{name}-{number}"})
                print(
                    f"{title}: accuracy {curves[title][-1]:.4f} after {len(curves[title])} rounds", flush=True
                )
    except KeyboardInterrupt:
        return 130
    except CatchmentError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    show(curves, output / f"{name}.png")
    return 0 if options.rounds is not None or judge(curves) else 1


def show(curves: Curves, path: Path) -> None:
    """Draw the curves into a PNG file; where matplotlib is not installed, as text."""
    try:
        import matplotlib as mpl
    except ImportError:
        print(as_text(curves))
        return
    mpl.use("Agg")  # no window, no display needed
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for title, accuracies in curves.items():
        axes.plot(range(1, len(accuracies) + 1), accuracies, marker=".", label=title)
    axes.set(xlabel="round", ylabel="test accuracy", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"plot: {path}", flush=True)


def as_text(curves: Curves) -> str:
    """The curves as bars of text, a line a round."""
    lines = []
    for title, accuracies in curves.items():
        lines.append(f"{title}, test accuracy by round")
        lines += [
            f"{i:4} {value:.3f} {'#' * round(50 * value)}" for i, value in enumerate(accuracies, start=1)
        ]
    return "\n".join(lines)


def _fresh_home(home: Path, name: str, files: Sequence[Path], initial: Callable[[Path], object]) -> Path:
    if home.exists():
        with locked(home):  # raises when the last run is still there
            shutil.rmtree(home)
    folder = make_home(home) / "namespaces" / "default" / name
    (folder / "scripts").mkdir(parents=True)
    for path in files:
        shutil.copy(path, folder / "scripts" / path.name)
    initial(folder / "initial.safetensors")
    return home


def _paths(name: str) -> dict[str, Any]:
    return {
        "description": f"example {name}",
        "model_path": f"{name}/initial.safetensors",
        "scripts": {"path": f"{name}/scripts", "config_file": "config.json"},
        "output": f"{name}/output",
    }


def _accuracies(client: Client, job: Mapping[str, Any]) -> list[float]:
    """Run a job; the accuracy on the sites' test data after each round."""
    client.create_job("default", dict(job), start=True)
    ended = follow(client, "default", job["id"])
    if ended.state != "FINISHED":
        raise RoundFailed(f"job {job['id']} ended as {ended.state}: {ended.reason}")
    rounds = [one for one in client.rounds("default", job["id"]) if one.state == "committed"]
    evaluated = [one for one in rounds if "accuracy" in one.metrics]
    return [one.metrics["accuracy"] for one in sorted(evaluated, key=lambda one: one.number)]


def _end_as_by_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
