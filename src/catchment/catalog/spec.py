"""What users send about a model version: the document's Model, and an update of one."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catchment.errors import InvalidField
from catchment.findings import invalid_field
from catchment.store.files import plain_path

NAME = r"[a-z0-9][a-z0-9._-]*"
VERSION = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
FILE_NAME = re.compile(r"[^\x00/\\]{1,255}")
CHECKPOINT = re.compile(r"checkpoint_v\d+")
RUNTIMES = {"torch": "pytorch", "tf": "keras", "tensorflow": "keras"}
"""Other names of the runtimes that jobs have."""

ModelName = Annotated[str, Field(pattern=f"^{NAME}$", max_length=255)]
Version = Annotated[str, Field(pattern=f"^{VERSION}$")]
Description = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")]
FileName = Annotated[str, Field(pattern=f"^{FILE_NAME.pattern}$")]
State = Literal["unready", "ready", "error", "deleting"]
SERVER_FIELDS = frozenset(
    {
        "id",
        "version_info",
        "storage_info",
        "error_msg",
        "format",
        "digest",
        "size_bytes",
        "signature",
        "equivalence",
    }
)
"""What only the server says. Taken in a body and left aside, so that what GET returned can be sent back."""


class NewModel(BaseModel):
    """The document's Model, as a user sends it. `state` and `progress` are not believed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: ModelName
    version: Version | None = None
    runtime: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+ -]{0,63}$")]
    description: Description = ""
    namespace: str | None = None
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    state: State | None = None
    model_path: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    file_name: FileName | None = None

    @property
    def canonical_runtime(self) -> str:
        """The runtime in the words that jobs use, in lower case."""
        lowered = self.runtime.lower()
        return RUNTIMES.get(lowered, lowered)


class Change(BaseModel):
    """An update: a description, a state or the progress of an upload that goes past Catchment.

    `uploading`, `success` and `failed` are the original program's words for what an uploader reports.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    description: Description | None = None
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    state: Literal["unready", "ready", "error", "uploading", "success", "failed"] | None = None
    error_msg: Description | None = None


def parse_new(body: object, namespace: str) -> NewModel:
    """The validated body of a creation.

    Raises:
        InvalidField: the first field that is wrong, and what would be right.
    """
    try:
        new = NewModel.model_validate(_without_server_fields(body))
    except ValidationError as error:
        raise invalid_field(error) from None
    if new.namespace not in (None, namespace):
        raise InvalidField("namespace", f"is {new.namespace!r}, the path names {namespace!r}")
    if new.model_path is not None and new.file_name is not None:
        raise InvalidField("file_name", "excludes model_path; give one of them")
    if new.state not in (None, "unready"):
        raise InvalidField("state", f"is {new.state!r}; a new model is unready until its bytes are there")
    if new.version is not None and CHECKPOINT.fullmatch(new.version):
        raise InvalidField("version", f"{new.version!r} is kept for the checkpoints of jobs")
    if new.file_name in (".", ".."):
        raise InvalidField("file_name", f"{new.file_name!r} is no name of a file")
    if new.model_path is None:
        return new
    return new.model_copy(update={"model_path": _inside(new.model_path, namespace)})


def _inside(path: str, namespace: str) -> str:
    """A path in the namespace's folder; the original program's form `namespace:path` is understood."""
    before, colon, after = path.partition(":")
    if colon and "/" not in before:
        if before != namespace:
            raise InvalidField(
                "model_path", f"names namespace {before!r}; only {namespace!r} can be copied from"
            )
        path = after
    return str(plain_path(path, "model_path"))


def parse_change(body: object) -> Change:
    """The validated body of an update; at least one field.

    Raises:
        InvalidField: a field is wrong, or cannot be changed.
    """
    try:
        change = Change.model_validate(body)
    except ValidationError as error:
        raise invalid_field(error) from None
    if not change.model_fields_set:
        raise InvalidField("body", "changes nothing; give description, progress or state")
    return change


def _without_server_fields(body: object) -> object:
    if not isinstance(body, dict):
        raise InvalidField("body", "a JSON object is required")
    given: dict[str, Any] = body
    return {key: value for key, value in given.items() if key not in SERVER_FIELDS}


def check_name(name: str, field: str = "name") -> str:
    """A model's name. Raises InvalidField."""
    if len(name) > 255 or not re.fullmatch(NAME, name):
        raise InvalidField(
            field, f"{name!r} must be of a-z, 0-9, '.', '_', '-', and begin with a letter or digit"
        )
    return name


def check_version(version: str, field: str = "version") -> str:
    """A version's name: what an OCI registry takes as a tag. Raises InvalidField."""
    if not re.fullmatch(VERSION, version):
        raise InvalidField(
            field,
            f"{version!r} must be up to 128 of A-Z, a-z, 0-9, '_', '.', '-', the first none of the last two",
        )
    return version
