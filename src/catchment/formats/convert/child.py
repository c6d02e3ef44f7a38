"""The child process of a conversion: opens a model in a backend's own environment, and does the job's steps.

It is started by its path in Python's isolated mode, with the job's folder as its only argument. The
interpreter may be another one than Catchment's, with other packages: of Catchment it imports modules that
need nothing but NumPy.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from catchment.formats.convert.contract import Entry, Job, KnowsPlaces, Model, Problem
    from catchment.formats.convert.samples import Known

_MAX_MESSAGE = 2000


def main(folder: Path) -> NoReturn:
    """Do the job of the folder and end this process, whatever threads a framework has left."""
    _make_importable(Path(__file__).resolve().parents[2])
    from catchment.formats.convert.contract import RESULT, Job

    job = Job.read(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_s, job.cpu_s + 5))
    told: dict[str, Any] = {"seconds": {}}
    try:
        _do(job, told)
    except BaseException as error:  # noqa: BLE001 - the edge of the process; a model may raise anything
        problem = _problem(error)
        if problem.reason in ("failed", "unsupported"):
            traceback.print_exc()
        told["problem"] = vars(problem)
    started = time.clock_gettime(time.CLOCK_BOOTTIME) - _started_s()
    told["seconds"]["process"] = {"wall": round(started, 4), "cpu": round(time.process_time(), 4)}
    staged = (folder / RESULT).with_suffix(".new")
    staged.write_text(json.dumps(told))
    staged.replace(folder / RESULT)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _make_importable(package: Path) -> None:
    """Let `catchment` be imported from its folder, and nothing else that is installed beside it."""
    start = package / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        "catchment", start, submodule_search_locations=[str(package)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{package} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["catchment"] = module
    spec.loader.exec_module(module)


def _do(job: Job, told: dict[str, Any]) -> None:
    clock = _Clock(told["seconds"])
    entry: Entry = importlib.import_module(f"catchment.formats.convert.backends.{job.backend}.entry")
    with clock.measured("open"):
        model = entry.open_model(job)
    told["signature"] = model.signature.to_json()
    told["versions"] = {"python": sys.version.split()[0], **_versions(entry.PACKAGES)}
    for step in job.steps:
        with clock.measured(step):
            _STEPS[step](job, model, told)


def _convert(job: Job, model: Model, _: dict[str, Any]) -> None:
    model.convert(job)


def _check(_: Job, model: Model, told: dict[str, Any]) -> None:
    told["facts"] = model.check()


def _draw(job: Job, model: Model, told: dict[str, Any]) -> None:
    from catchment.formats.convert import samples
    from catchment.formats.convert.contract import KnowsPlaces
    from catchment.formats.convert.sample_files import write

    inputs = model.signature.inputs
    kinds = list(samples.kinds(inputs, randoms=job.randoms, missing=model.takes_missing))
    drawn = samples.draw_all(inputs, kinds, job.seed)
    if isinstance(model, KnowsPlaces):
        found = _known(job, model, len(kinds))
        told["notes"] = found.notes
        if made := samples.known(inputs[0], found):
            kinds.append(made[0])
            drawn.append(made[1])
    for index, sample in enumerate(drawn):
        write(job.folder, "in", index, sample)
    told["kinds"] = [vars(kind) for kind in kinds]


def _known(job: Job, model: KnowsPlaces, number: int) -> Known:
    """A model that is built as none was thought of costs these rows, and not its conversion."""
    from catchment.formats.convert import samples

    try:
        return model.known(samples.generator(job.seed, number))
    except Exception as error:  # noqa: BLE001 - the edge of the process; its words are told
        traceback.print_exc()
        words = (_said(error).splitlines() or [""])[0][:300]
        return samples.Known(notes=(f"what the model has learned could not be looked up: {words}",))


def _predict(job: Job, model: Model, told: dict[str, Any]) -> None:
    """A sample that the model does not take costs that sample: an index may be none of its table."""
    from catchment.formats.convert.sample_files import count, read, write

    told["not_taken"] = {}
    for index in range(count(job.folder)):
        try:
            made = model.predict(read(job.folder, "in", index))
        except Exception as error:  # noqa: BLE001 - the edge of the process; its words are told
            traceback.print_exc()
            told["not_taken"][str(index)] = (_said(error).splitlines() or [""])[0][:300]
        else:
            write(job.folder, job.label, index, made)


_STEPS = {"convert": _convert, "check": _check, "draw": _draw, "predict": _predict}


def _started_s() -> float:
    """When this process was started, in seconds since the machine was."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


class _Clock:
    """Measures steps in seconds of the clock, and of the processor."""

    def __init__(self, seconds: dict[str, Any]) -> None:
        self._seconds = seconds
        self._step = ""

    def measured(self, step: str) -> _Clock:
        self._step = step
        return self

    def __enter__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        self._seconds[self._step] = {"wall": round(wall, 4), "cpu": round(cpu, 4)}


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:_MAX_MESSAGE]


def _problem(error: BaseException) -> Problem:
    from catchment.errors import CatchmentError, InvalidField
    from catchment.formats.convert.contract import Problem, RefusedModelError, UnsupportedModelError

    if isinstance(error, InvalidField):
        return Problem("field", error.problem[:_MAX_MESSAGE], error.field[:_MAX_MESSAGE])
    if isinstance(error, UnsupportedModelError):
        return Problem("unsupported", str(error)[:_MAX_MESSAGE])
    if isinstance(error, (RefusedModelError, CatchmentError)):
        return Problem("refused", str(error)[:_MAX_MESSAGE])
    return Problem("failed", _said(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
