"""The steps of a ModelJob. Each may be run twice: what it found is in the job's row, and is found again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.catalog import content
from catchment.catalog import rows as catalog_rows
from catchment.errors import CatchmentError, ConversionFailed, ExtractionFailed, FormatMismatch, NotFound
from catchment.model_jobs import converting, rows, working
from catchment.model_jobs.claim import ModelJobClaim, held
from catchment.model_jobs.executing import executor
from catchment.model_jobs.manager import work_folder
from catchment.model_jobs.spec import Spec, tagged
from catchment.model_jobs.states import CONVERT, EXTRACT, PULL, PUSH, STOPPED, VERIFY, Phase
from catchment.models import formats
from catchment.store import Store
from catchment.store.database import Transaction

EVENTS = {PULL: "Pulled", EXTRACT: "Extracted", CONVERT: "Converted", VERIFY: "Verified", PUSH: "Pushed"}
LOG_LINES = 200
"""Of what a converter printed, the last ones are kept."""
Found = dict[str, Any]


def done(store: Store, claim: ModelJobClaim, step: str) -> Found | None:
    """What a step has found, if it is finished. Raises JobStopped, LeaseLost."""
    found: Found | None = store.db.write(lambda tx: held(tx, claim).steps.get(step))
    return found


def finish(store: Store, claim: ModelJobClaim, step: str, found: Found, told: str) -> Found:
    """Write down what a step has found, with its event."""

    def write(tx: Transaction) -> None:
        row = held(tx, claim)
        if step not in row.steps:
            kept = {name: value for name, value in row.steps.items() if name != rows.delivered(step)}
            rows.change(tx, claim.uid, steps={**kept, step: found})
            rows.event(tx, claim.uid, EVENTS[step], told)
            rows.line(tx, claim.uid, told)

    store.db.write(write)
    faults.reach(f"after_{step}")
    return found


def once(step: str) -> Callable[[Callable[..., tuple[Found, str]]], Callable[..., Found]]:
    """A step that is not repeated once it is finished; the function gives what it found, and words."""

    def wrap(function: Callable[..., tuple[Found, str]]) -> Callable[..., Found]:
        def run(store: Store, claim: ModelJobClaim) -> Found:
            known = done(store, claim, step)
            if known is not None:
                return known
            found, told = function(store, claim)
            return finish(store, claim, step, found, told)

        run.__doc__ = function.__doc__
        run.__name__ = function.__name__
        return run

    return wrap


def plan(store: Store, claim: ModelJobClaim) -> tuple[str, ...]:
    """The steps between pull and push, in order."""
    spec = rows.spec_of(store.db.write(lambda tx: held(tx, claim)))
    return (CONVERT, VERIFY, EXTRACT) if spec.conversion is not None else (EXTRACT,)


@once(PULL)
def pull(store: Store, claim: ModelJobClaim) -> tuple[Found, str]:
    """Find the source version, and lay its files out.

    Raises:
        NotFound: there is no such version.
        WrongState: it is not ready.
        FormatMismatch: it is of another format than the job says, or of none that is known.
    """

    def step(tx: Transaction) -> Found:
        job = held(tx, claim)
        spec = rows.spec_of(job)
        named = tagged(spec.model, "spec.model")
        row = catalog_rows.require(tx, named.project, named.name, named.tag)
        kept = content.require_ready(tx, row)
        found = _format(spec, row.format, [file.path for file in kept])
        rows.change(tx, claim.uid, source_id=row.id)
        return {"modelID": row.id, "digest": row.digest, "format": found, "bytes": row.size_bytes}

    try:
        found = store.db.write(step)
    except NotFound as error:
        raise NotFound(f"failed to pull model: {error}") from error

    def pulled(tx: Transaction) -> list[catalog_rows.VersionFile]:
        return content.require_ready(tx, catalog_rows.by_id(tx, found["modelID"]))

    executor(store).prepare(store, claim, store.db.read(pulled))
    return found, f"pulled {found['format']} of {found['bytes']} bytes, {found['digest']}"


def _format(spec: Spec, known: str, names: list[str]) -> str:
    """The source's format: what the job says and the version is, checked against its files."""
    said = spec.extraction.format if spec.extraction else None
    if spec.conversion is not None:
        said = spec.conversion.mmdnn.from_
    asked = formats.named(said).name if said else ""
    if known and asked and known != asked:
        raise FormatMismatch(f"the job says that the model is {asked}, the version is {known}")
    found = asked or known
    return formats.check(found, names).name if found else formats.infer(names).name


@once(EXTRACT)
def extract(store: Store, claim: ModelJobClaim) -> tuple[Found, str]:
    """Read the signature of the source, or of what it was converted to, in a confined child.

    Raises:
        ExtractionFailed: the files are damaged, hostile, or of another format.
    """
    found = executor(store).extract(store, claim, EXTRACT)
    told = (
        f"extracted {len(found.inputs)} inputs, {len(found.outputs)} outputs, "
        f"{sum(found.layers.values())} operators; not in the files: {', '.join(found.absent) or 'nothing'}"
    )
    return found.to_json(), told


@once(CONVERT)
def convert(store: Store, claim: ModelJobClaim) -> tuple[Found, str]:
    """Convert the source in an environment of its own; the result has passed the gate.

    Raises:
        ConversionFailed: no backend can, the converter broke, or it took more than it may.
        GateFailed: the result is not its source's equal.
        JobStopped: the job was stopped meanwhile.
    """
    found = executor(store).convert(store, claim)
    if log := found.pop("log", ""):
        store.db.write(lambda tx: rows.line(tx, claim.uid, *log.splitlines()[-LOG_LINES:]))
    return found, working.told(found)


@once(VERIFY)
def verify(store: Store, claim: ModelJobClaim) -> tuple[Found, str]:
    """Read the converted files with our own reader, and hold the signature against what the converter said.

    Raises:
        ExtractionFailed: they cannot be read, or are not what the converter said.
    """
    steps = store.db.write(lambda tx: held(tx, claim)).steps
    converted = steps[CONVERT]
    read = executor(store).extract(store, claim, VERIFY)
    problems = converting.differences(converted["signature"], read)
    if problems:
        raise ExtractionFailed(f"the converted files are not what the converter said: {'; '.join(problems)}")
    found = {"passed": True, "inputs": len(read.inputs), "outputs": len(read.outputs)}
    return (
        found,
        f"verified: {len(read.inputs)} inputs and {len(read.outputs)} outputs are as the converter said",
    )


def succeed(store: Store, claim: ModelJobClaim) -> Found:
    """End the job as Succeeded; what its steps have found."""

    def step(tx: Transaction) -> Row[Any]:
        row = held(tx, claim)
        rows.end(tx, claim.uid, Phase.SUCCEEDED, "modelJob run successfully")
        return row

    row = store.db.write(step)
    shutil.rmtree(work_folder(store, claim.uid), ignore_errors=True)
    return dict(row.steps)


def fail(store: Store, claim: ModelJobClaim, error: BaseException) -> None:
    """End the job as Failed with the error's words, unless it is somebody else's now.

    What a converter printed last is in the job's log.
    """
    words = str(error) if isinstance(error, CatchmentError) else f"{type(error).__name__}: {error}"
    printed = error.log if isinstance(error, ConversionFailed) else ""
    _end(store, claim, words, printed)


def stop(store: Store, claim: ModelJobClaim) -> None:
    """End a job that was to stop; one that is being deleted is left to the supervisor."""
    _end(store, claim, STOPPED)


def _end(store: Store, claim: ModelJobClaim, message: str, printed: str = "") -> None:
    def step(tx: Transaction) -> None:
        row = rows.by_uid(tx, claim.uid, lock=True)
        if row.lease_owner != claim.owner:
            return
        if row.phase == Phase.DELETING:
            rows.change(tx, claim.uid, lease_owner=None, lease_until=0.0)
        else:
            rows.line(tx, claim.uid, *printed.splitlines()[-LOG_LINES:])
            rows.end(tx, claim.uid, Phase.FAILED, STOPPED if row.stop_requested else message)

    store.db.write(step)
    shutil.rmtree(work_folder(store, claim.uid), ignore_errors=True)
