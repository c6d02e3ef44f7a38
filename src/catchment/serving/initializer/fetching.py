"""Fetch a model into a pod's volume: resumed after a crash, checked by digest, done once."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catchment.errors import DigestMismatch, InvalidField, Refused
from catchment.models import config as configs
from catchment.models.config import ORMBFILE, ModelConfig, Signature, Tensor
from catchment.models.documents import MAX_YAML_BYTES
from catchment.models.files import MODEL_FOLDER, files_of, version_digest, with_checksums
from catchment.models.folders import inside_model
from catchment.registry.copying import Place
from catchment.registry.opening import Access
from catchment.registry.pulling import pull_folder
from catchment.serving.initializer.layouts import Description, arrange
from catchment.serving.initializer.sources import ModelSource

PULLED, DONE, LOCK = ".model", ".catchment-done", ".catchment-lock"


def install(source: ModelSource, target: Path, access: Access, environment: Mapping[str, str]) -> bool:
    """Have the model lie in `target` as its runtime wants it.

    Args:
        source: which model.
        target: a folder of ours alone, such as a pod's volume; what else lies there is removed.
        access: how the registry is reached.
        environment: may hold FORMAT, INPUTS and OUTPUTS; otherwise the artifact says them.

    Returns:
        Whether anything was done: False where an earlier run had finished.

    Raises:
        DigestMismatch: the registry gives another model under this name.
        BadArtifact, NotFound: there is no such model, or it lacks what the runtime needs.
        Unauthorized, Forbidden, Unreachable: the registry does not let us, or does not answer.
        InvalidField: the signature cannot be said in the runtime's terms.
        Refused: another process is at it.
    """
    target.mkdir(parents=True, exist_ok=True)
    mark = json.dumps({"source": str(source)})
    with _alone(target):
        done = target / DONE
        if done.is_file() and done.read_text() == mark:
            return False
        _clear(target)
        pulled = target / PULLED
        registry = access.remote(source.reference.host)
        try:
            pull_folder(Place(registry, source.reference.repository), source.reference.target, pulled)
        finally:
            registry.close()
        check_files(pulled, source.digest)
        arrange(pulled, target, source.layout, describe(pulled, source, environment))
        shutil.rmtree(pulled)
        done.write_text(mark)
    return True


def check_files(pulled: Path, digest: str) -> None:
    """Raises DigestMismatch when a folder's files are not the version's with this digest."""
    files = [with_checksums(each) for each in files_of(pulled / MODEL_FOLDER)]
    found = version_digest({inside_model(each.name): each.digest for each in files})
    if found != digest:
        raise DigestMismatch(digest, found)


def describe(pulled: Path, source: ModelSource, environment: Mapping[str, str]) -> Description:
    """What is known of the model: the stored signature in the environment, else the artifact's own words.

    Raises:
        BadArtifact: its ormbfile.yaml is none.
        InvalidField: INPUTS or OUTPUTS are no JSON lists of tensors.
    """
    format_name = environment.get("FORMAT", "")
    if format_name:
        inputs, outputs = _tensors(environment, "INPUTS"), _tensors(environment, "OUTPUTS")
    else:
        config = _config(pulled)
        format_name, signature = config.format, config.signature or Signature()
        inputs, outputs = _written(signature.inputs), _written(signature.outputs)
    return Description(
        source.name,
        source.reference.tag,
        format_name,
        inputs,
        outputs,
        mllib_format=environment.get("MLLIB_FORMAT", ""),
    )


def _config(pulled: Path) -> ModelConfig:
    with (pulled / ORMBFILE).open("rb") as file:
        return configs.from_yaml(file.read(MAX_YAML_BYTES + 1))


def _written(tensors: tuple[Tensor, ...]) -> tuple[dict[str, Any], ...]:
    return tuple({"name": each.name, "dType": each.d_type, "size": list(each.size)} for each in tensors)


def _tensors(environment: Mapping[str, str], name: str) -> tuple[dict[str, Any], ...]:
    try:
        value = json.loads(environment.get(name) or "[]")
    except ValueError:
        value = None
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidField(name, "must be a JSON list of tensors, each with name, dType and size")
    return tuple(value)


def _clear(target: Path) -> None:
    """Remove what is not whole; parts of a pull that broke off stay, with which the next goes on."""
    for each in target.iterdir():
        if each.name == LOCK or (each.name.startswith(f".{PULLED}.") and each.name.endswith(".pull")):
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Volumes may be shared by several pods. Raises Refused while another one is at it."""
    with (target / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another process puts a model into {target}") from None
        yield
