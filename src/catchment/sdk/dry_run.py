"""Try a training script on this machine: `python -m catchment.sdk.dry_run --script train.py ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from catchment.errors import CatchmentError
from catchment.sdk.local_round import DEFAULT_TIMEOUT_S, DryRun, Report, algorithm, run

__all__ = ["DryRun", "Report", "main", "run", "summary"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a script once and print what it committed; 0 when a site could use it, else 1."""
    parsed = _parser().parse_args(arguments)
    try:
        wanted = DryRun(
            script=parsed.script,
            weights=parsed.weights,
            runtime=parsed.runtime,
            datasets=dict(parsed.dataset),
            evaluate=parsed.evaluate,
            arguments=parsed.arguments,
            seed=parsed.seed,
            timeout_s=parsed.timeout,
            strategy=algorithm(parsed.strategy),
            optimizer=algorithm(parsed.optimizer),
            loss=algorithm(parsed.loss),
        )
        report = run(wanted, parsed.keep)
    except (CatchmentError, OSError) as error:
        print(f"dry run failed: {error}", file=sys.stderr)
        return 1
    print(summary(report))
    return 0


def summary(report: Report) -> str:
    """The report for a person to read."""
    lines = [f"dry run passed: {report.kind}, {report.seconds:.1f} s"]
    if report.kind == "train":
        lines.append(f"  update   {report.num_tensors} tensors, {report.num_elements:,} values")
        lines.append(f"  norm     {report.update_norm:.6g}, most of it in {report.largest}")
    metrics = ", ".join(f"{name} {value}" for name, value in report.metrics.items())
    lines.append(f"  metrics  {metrics or 'none'}")
    if report.files:
        lines.append(f"  files    {', '.join(report.files)}")
    lines += [f"  remark   {remark}" for remark in report.remarks]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m catchment.sdk.dry_run",
        description="Run one round of a training script on this machine and check what it commits.",
    )
    parser.add_argument("--script", type=Path, required=True, help="the training script")
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="initial model file (.safetensors, .pt, .pth, .keras, .h5)",
    )
    parser.add_argument(
        "--runtime", choices=("pytorch", "keras"), required=True, help="the script's framework"
    )
    parser.add_argument(
        "--dataset",
        type=_dataset,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a data set; may be given more than once",
    )
    parser.add_argument("--evaluate", action="store_true", help="try the evaluation instead of the training")
    parser.add_argument("--seed", type=int, default=0, help="what fl.seed() gives (0)")
    parser.add_argument(
        "--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S", help="end the script after S seconds"
    )
    for kind in ("strategy", "optimizer", "loss"):
        parser.add_argument(
            f"--{kind}", metavar="NAME|JSON", help=f"the job's {kind}: its name, or JSON of name and params"
        )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the task folder, new or empty, in DIR")
    parser.add_argument(
        "arguments", nargs="*", metavar="-- ARGUMENT", help="the script's command line, after two dashes"
    )
    return parser


def _dataset(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=PATH")
    return name, Path(path)


if __name__ == "__main__":
    sys.exit(main())
