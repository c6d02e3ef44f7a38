"""The steps of a ModelJob. Each may be run twice: what it found is in the job's row, and is found again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.catalog import content
from catchment.catalog import rows as catalog_rows
from catchment.errors import CatchmentError, ExtractionFailed, FormatMismatch, NotFound
from catchment.formats.extract.result import Extracted
from catchment.formats.extract.running import run_extraction
from catchment.model_jobs import converting, files, rows
from catchment.model_jobs.claim import ModelJobClaim, held, stop_watched
from catchment.model_jobs.manager import work_folder
from catchment.model_jobs.spec import Spec, tagged
from catchment.model_jobs.states import STOPPED, Phase
from catchment.models import formats
from catchment.store import Store
from catchment.store.database import Transaction

PULL, EXTRACT, CONVERT, VERIFY, PUSH = "pull", "extract", "convert", "verify", "push"
EVENTS = {PULL: "Pulled", EXTRACT: "Extracted", CONVERT: "Converted", VERIFY: "Verified", PUSH: "Pushed"}
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
            rows.change(tx, claim.uid, steps={**row.steps, step: found})
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

    place = work_folder(store, claim.uid) / files.SOURCE
    shutil.rmtree(place, ignore_errors=True)
    files.laid_out(store, place, store.db.read(pulled))
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
    found = _extracted(store, claim)
    told = (
        f"extracted {len(found.inputs)} inputs, {len(found.outputs)} outputs, "
        f"{sum(found.layers.values())} operators; not in the files: {', '.join(found.absent) or 'nothing'}"
    )
    return found.to_json(), told


def _extracted(store: Store, claim: ModelJobClaim) -> Extracted:
    steps = store.db.write(lambda tx: held(tx, claim)).steps
    if CONVERT in steps:
        return run_extraction(result_folder(store, claim), steps[CONVERT]["format"])
    return run_extraction(files.source_folder(store, claim), steps[PULL]["format"])


def result_folder(store: Store, claim: ModelJobClaim) -> Path:
    """What the conversion has made, as a folder; laid out anew where it is not there."""
    kept = store.db.read(lambda tx: files.made_files(tx, claim.uid))
    return files.laid_out(store, work_folder(store, claim.uid) / "result", kept)


@once(CONVERT)
def convert(store: Store, claim: ModelJobClaim) -> tuple[Found, str]:
    """Convert the source in an environment of its own; the result has passed the gate.

    Raises:
        ConversionFailed: no backend can, the converter broke, or it took more than it may.
        GateFailed: the result is not its source's equal.
        JobStopped: the job was stopped meanwhile.
    """
    source = files.source_folder(store, claim)
    job = store.db.write(lambda tx: held(tx, claim))
    if job.steps[PULL]["format"] == "ONNX":
        files.copy_external_data(source)
    target = work_folder(store, claim.uid) / files.MADE
    shutil.rmtree(target, ignore_errors=True)
    with stop_watched(store, claim) as stop:
        found = converting.convert(store, job, source, target, stop, lambda text: _say(store, claim, text))
    if found.log:
        store.db.write(lambda tx: rows.line(tx, claim.uid, *found.log.splitlines()[-200:]))
    files.keep_made(store, claim, target)
    shutil.rmtree(target, ignore_errors=True)
    report = found.report.to_json()
    kept = {
        "backend": found.backend,
        "format": found.report.target_format,
        "report": report,
        "signature": found.signature.to_json(),
        "passedOver": dict(found.passed_over),
        "notIsolated": dict(found.missing),
    }
    error = found.report.max_abs_error
    compared = "not compared in numbers" if error is None else f"largest error {error:.3g}"
    told = f"converted {found.report.source_format} to {kept['format']} with {found.backend}, {compared}"
    return kept, told + (", lossy by design" if found.report.lossy else "")


def _say(store: Store, claim: ModelJobClaim, text: str) -> None:
    store.db.write(lambda tx: rows.line(tx, claim.uid, text))


@once(VERIFY)
def verify(store: Store, claim: ModelJobClaim) -> tuple[Found, str]:
    """Read the converted files with our own reader, and hold the signature against what the converter said.

    Raises:
        ExtractionFailed: they cannot be read, or are not what the converter said.
    """
    steps = store.db.write(lambda tx: held(tx, claim)).steps
    converted = steps[CONVERT]
    read = run_extraction(result_folder(store, claim), converted["format"])
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
    """End the job as Failed with the error's words, unless it is somebody else's now."""
    words = str(error) if isinstance(error, CatchmentError) else f"{type(error).__name__}: {error}"
    _end(store, claim, words)


def stop(store: Store, claim: ModelJobClaim) -> None:
    """End a job that was to stop; one that is being deleted is left to the supervisor."""
    _end(store, claim, STOPPED)


def _end(store: Store, claim: ModelJobClaim, message: str) -> None:
    def step(tx: Transaction) -> None:
        row = rows.by_uid(tx, claim.uid, lock=True)
        if row.lease_owner != claim.owner:
            return
        if row.phase == Phase.DELETING:
            rows.change(tx, claim.uid, lease_owner=None, lease_until=0.0)
        else:
            rows.end(tx, claim.uid, Phase.FAILED, STOPPED if row.stop_requested else message)

    store.db.write(step)
    shutil.rmtree(work_folder(store, claim.uid), ignore_errors=True)
