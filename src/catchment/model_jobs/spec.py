"""What users send as a ModelJob: the document's object, in JSON or YAML."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catchment.catalog.spec import CHECKPOINT
from catchment.errors import BadArtifact, FormatMismatch, InvalidField
from catchment.findings import invalid_field
from catchment.models import documents, formats
from catchment.registry.references import Reference, parse_reference

API_VERSION, KIND = "kleveross.io/v1alpha1", "ModelJob"
NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_LABEL = r"^([A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_NO_BLANK = re.compile(rb"^(apiVersion|kind):(?=[^\s])", re.MULTILINE)
"""As the document prints its example: YAML asks for a blank after the colon."""
EXTRACT, CONVERT = "modeljob/extract", "modeljob/convert"
"""Labels that the original sets, with "true"."""

Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Extraction(_Object):
    """Read the signature of a format's files; without a format that of the version."""

    format: Text | None = None


class Pair(_Object):
    """The document's `mmdnn`: from one format to another."""

    from_: Annotated[Text, Field(alias="from")]
    to: Text


class Conversion(_Object):
    """A conversion; `options` are Catchment's own, such as `opset` or `operation`."""

    mmdnn: Pair
    options: dict[str, str | int | bool] = {}


class Input(_Object):
    """The shape of an input, where neither the files nor the version's signature say it. -1 is open."""

    name: Text
    shape: Annotated[list[Annotated[int, Field(ge=-1)]], Field(max_length=32)]
    dtype: Annotated[str, Field(alias="dType", max_length=20)] = "float32"


class Variable(_Object):
    """An environment variable of the original's containers; kept and not used."""

    name: Text
    value: str = ""


class Spec(_Object):
    """The document's spec, with Catchment's own `inputs` and `tolerance`."""

    model: Text
    desired_tag: Annotated[Text | None, Field(alias="desiredTag")] = None
    extraction: Extraction | None = None
    conversion: Conversion | None = None
    inputs: Annotated[list[Input], Field(max_length=64)] = []
    tolerance: Annotated[float, Field(gt=0, le=1)] | None = None
    env: list[Variable] = []
    init_container: Annotated[list[dict[str, Any]], Field(alias="initContainer")] = []


class Metadata(BaseModel):
    """The parts of an object's metadata that are looked at; what the server sets is left aside."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, populate_by_name=True)

    name: Annotated[str, Field(pattern=f"^{NAME}$", max_length=253)] | None = None
    generate_name: Annotated[
        str | None, Field(alias="generateName", pattern=r"^[a-z0-9][-a-z0-9.]{0,200}$")
    ] = None
    namespace: str | None = None
    labels: dict[Annotated[str, Field(pattern=_LABEL)], Annotated[str, Field(max_length=63)]] = {}
    annotations: dict[str, Annotated[str, Field(max_length=10_000)]] = {}


class _Body(_Object):
    api_version: Annotated[Literal["kleveross.io/v1alpha1"], Field(alias="apiVersion")] = (
        "kleveross.io/v1alpha1"
    )
    kind: Literal["ModelJob"] = "ModelJob"
    metadata: Metadata = Metadata()
    spec: Spec
    status: dict[str, Any] | None = None


@dataclass(frozen=True)
class NewModelJob:
    """A ModelJob that can be created.

    Attributes:
        source: the version that it reads; the host is an alias of this registry.
        target: where its result goes.
    """

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Spec
    source: Reference
    target: Reference


def read_body(raw: bytes, content_type: str) -> object:
    """The tree of a body in YAML, of which JSON is a part.

    Raises:
        InvalidField: it is none, gives a key twice, or uses what only YAML can (aliases, tags).
    """
    if len(raw) > documents.MAX_YAML_BYTES:
        raise InvalidField("body", f"is larger than {documents.MAX_YAML_BYTES} bytes")
    text = _NO_BLANK.sub(rb"\1: ", raw)
    try:
        documents.read_yaml(text, "the body")
        if twice := documents.repeated_key(text.decode()):
            raise InvalidField(twice, "is given twice")
        return yaml.safe_load(text)
    except (BadArtifact, yaml.YAMLError, ValueError) as error:
        raise InvalidField(
            "body", f"is no JSON and no YAML ({content_type or 'no Content-Type'}): {error}"
        ) from None


def parse(body: object, namespace: str) -> NewModelJob:
    """The validated ModelJob of a body.

    Raises:
        InvalidField: the first field that is wrong, and what would be right.
    """
    if not isinstance(body, dict):
        raise InvalidField("body", "an object with metadata and spec is required")
    try:
        made = _Body.model_validate(body)
    except ValidationError as error:
        raise invalid_field(error) from None
    meta, spec = made.metadata, made.spec
    if meta.namespace not in (None, "", namespace):
        raise InvalidField("metadata.namespace", f"is {meta.namespace!r}, the path names {namespace!r}")
    if spec.extraction is None and spec.conversion is None:
        raise InvalidField("spec.extraction", "one of extraction and conversion is required")
    source = tagged(spec.model, "spec.model")
    target = _target(spec, source)
    _check_formats(spec)
    kinds = {
        EXTRACT: spec.extraction is not None and spec.conversion is None,
        CONVERT: spec.conversion is not None,
    }
    labels = {**meta.labels, **{label: "true" for label, wanted in kinds.items() if wanted}}
    name = meta.name or f"{meta.generate_name or 'modeljob-'}{secrets.token_hex(4)}"
    return NewModelJob(name, labels, dict(meta.annotations), spec, source, target)


def tagged(text: str, field: str) -> Reference:
    """A reference to a version by its tag. Raises InvalidField."""
    reference = parse_reference(text, field=field)
    if reference.digest or not reference.tag:
        raise InvalidField(field, f"{text!r} must name a version by its tag: [HOST/]project/name:version")
    return reference


def _target(spec: Spec, source: Reference) -> Reference:
    if spec.desired_tag is None:
        if spec.conversion is not None:
            raise InvalidField("spec.desiredTag", "is required for a conversion: where the result goes")
        return source
    target = tagged(spec.desired_tag, "spec.desiredTag")
    same = (target.repository, target.tag) == (source.repository, source.tag)
    if CHECKPOINT.fullmatch(target.tag) and not same:
        raise InvalidField("spec.desiredTag", f"{target.tag!r} is kept for the checkpoints of jobs")
    return target


def _check_formats(spec: Spec) -> None:
    conversion = spec.conversion
    wanted = {
        "spec.extraction.format": spec.extraction.format if spec.extraction else None,
        "spec.conversion.mmdnn.from": conversion.mmdnn.from_ if conversion else None,
        "spec.conversion.mmdnn.to": conversion.mmdnn.to if conversion else None,
    }
    for field, name in wanted.items():
        try:
            formats.named(name or "Others")
        except FormatMismatch as error:
            raise InvalidField(field, str(error)) from None
