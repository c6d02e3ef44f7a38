"""What ModelJobs cost: extraction beside loading, conversion beside the bare call of its converter.

    python benchmarks/model_jobs.py [extraction | conversion] [--only CASE] [--json]
    python benchmarks/model_jobs.py extraction --python tensorflow=/other/venv/bin/python

What is measured, and how, is said in extraction.py and conversion.py. To reach: of extraction 10 times less
CPU and memory than the framework, 0.5 s and 64 MB for 3 GiB of external data; of conversion at most 1.3 times
the bare call and verification beside it, errors of at most 1e-5.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "src")]

import conversion  # noqa: E402
import extraction  # noqa: E402
from table import Line, show  # noqa: E402

from tests.model_files.environments import environments_folder  # noqa: E402


def main() -> None:
    """Measure, print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("half", nargs="?", choices=("extraction", "conversion"), help="without it both")
    parser.add_argument("--only", help='one case by name, such as ONNX or "H5 -> ONNX"')
    parser.add_argument(
        "--python", action="append", default=[], metavar="MODULE=PROGRAM", help="has a framework"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each conversion; medians are shown")
    parser.add_argument("--cache", type=Path, default=environments_folder(), help="converters' environments")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    asked = parser.parse_args()
    show(measured(asked), as_json=asked.json)


def measured(asked: argparse.Namespace) -> Iterator[Line]:
    """What was asked for."""
    pythons = dict(each.split("=", 1) for each in asked.python)
    halves = {
        "extraction": extraction.lines(pythons, asked.only),
        "conversion": conversion.lines(asked.cache, asked.repeats, asked.only),
    }
    chosen = [half for name, half in halves.items() if asked.half in (None, name)]
    return itertools.chain(*chosen)


if __name__ == "__main__":
    main()
