"""What a job refers to must be there when it is submitted: model, scripts, extenders, checkpoint, output."""

from __future__ import annotations

from catchment.catalog import made, sources
from catchment.errors import InvalidField, NotFound, PathRefused
from catchment.extenders import script
from catchment.jobs import ssl_folder
from catchment.jobs.spec import Job
from catchment.models.initial import SUFFIXES
from catchment.store import Store
from catchment.store.files import plain_path


def check(store: Store, namespace: str, job: Job, *, known_checkpoints: tuple[str, ...]) -> None:
    """Refuse a job that could not begin.

    Raises:
        InvalidField: names the field that refers to something that is not there, or leaves the namespace.
    """
    _check_output(store, namespace, job.output)
    field, value = job.model_source
    if field == "checkpoint_id" and value not in known_checkpoints:
        _check_checkpoint(store, namespace, job, known_checkpoints)
    if field == "model_id":
        store.db.read(lambda tx: sources.require_usable(tx, namespace, job, field, value))
    store.db.read(lambda tx: made.check_register(tx, namespace, job))
    if job.model_path is not None:
        _check_model(store, namespace, job.model_path)
    if job.scripts is not None:
        _check_scripts(store, namespace, job.scripts.path, job.scripts.config_file)
    if job.ssl is not None:
        ssl_folder.trusted_roots(store, namespace, job.ssl)
    if job.extenders is not None:
        script.check(store, namespace, job.extenders)


def _check_output(store: Store, namespace: str, path: str) -> None:
    plain = plain_path(path, "output")
    for folder in (plain, *plain.parents[:-1]):
        if _inside(store, namespace, str(folder), "output"):
            raise InvalidField("output", f"{str(folder)!r} is a file; give the path of a folder")


def _check_checkpoint(store: Store, namespace: str, job: Job, known: tuple[str, ...]) -> None:
    """A checkpoint by its model id: any job's, where it is not one of the own by number."""
    field, value = job.model_source
    shown = ", ".join(known) if known else "none yet"
    try:
        row = store.db.read(lambda tx: sources.require_usable(tx, namespace, job, field, value))
    except NotFound:
        raise InvalidField(
            field,
            f"{value!r} is no checkpoint of this job, it has {shown}, and no model has this id; "
            "to begin from another job's checkpoint give its id or, as model_path, its path",
        ) from None
    if row.job_uid is None:
        raise InvalidField(field, f"{value!r} is a model and no checkpoint; give it as model_id")


def _check_model(store: Store, namespace: str, path: str) -> None:
    plain_path(path, "model_path")
    if not path.lower().endswith(SUFFIXES):
        raise InvalidField("model_path", f"{path!r} must end in one of {', '.join(SUFFIXES)}")
    if not _inside(store, namespace, path, "model_path"):
        raise InvalidField(
            "model_path", f"there is no file {path!r} in the folder of namespace {namespace!r}"
        )


def _check_scripts(store: Store, namespace: str, path: str, config_file: str) -> None:
    plain_path(path, "scripts.path")
    plain_path(config_file, "scripts.config_file")
    if not _inside(store, namespace, f"{path}/{config_file}", "scripts.path"):
        raise InvalidField(
            "scripts.config_file",
            f"there is no file {config_file!r} in the folder {path!r} of namespace {namespace!r}",
        )


def _inside(store: Store, namespace: str, path: str, field: str) -> bool:
    """Whether a file is there; refused in the field's name when the path leaves the namespace's folder."""
    try:
        return store.files.is_file(namespace, path)
    except PathRefused as error:
        raise InvalidField(field, str(error)) from error
