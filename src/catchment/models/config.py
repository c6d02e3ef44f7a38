"""What a model version says of itself: the fields of ormbfile.yaml and of an ORMB artifact's config."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from catchment.errors import BadArtifact
from catchment.models import documents, go_json, times

CONFIG = "the model's config"
ORMBFILE = "ormbfile.yaml"


def _text(value: Any) -> Any:
    """Scalars are taken as the text that they are written as, as the original does."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("half of a surrogate pair is no character")
    return value


def _whole(value: Any) -> Any:
    if value is None:
        return 0
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?[0-9]{1,19}(\.0*)?", value) is None:
            raise ValueError(f"{value[:40]!r} is no whole number")
        return int(value.partition(".")[0])
    return value


def _created(value: Any) -> Any:
    return times.canonical(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text)]
Whole = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=-(2**63), lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    always: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written even when they are empty."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return (
            {key: value for key, value in data.items() if value is not None}
            if isinstance(data, dict)
            else data
        )

    def written(self) -> dict[str, Any]:
        """The fields under their names in JSON, in the original's order, without the empty ones."""
        fields = type(self).model_fields
        values = ((name, field.alias or name, getattr(self, name)) for name, field in fields.items())
        return {
            alias: _written(value)
            for name, alias, value in values
            if value not in ("", (), {}, None) or name in self.always
        }


def _written(value: Any) -> Any:
    if isinstance(value, _Part):
        return value.written()
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, dict):
        return {key: _written(value[key]) for key in sorted(value)}
    return value


class Measure(_Part):
    """A named value, such as a metric or a hyperparameter. Values are texts."""

    always = frozenset({"name", "value"})

    name: Text = ""
    value: Text = ""


class Tensor(_Part):
    """An input or output of the model. -1 in `size` is a dimension that is open."""

    name: Text = ""
    size: tuple[Whole, ...] = ()
    d_type: Text = ""
    op_type: Text = ""
    values: tuple[Text, ...] = ()


class Signature(_Part):
    """What goes into the model and what comes out; `layers` counts its operators by kind."""

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    layers: dict[Text, Whole] = {}


class Repository(_Part):
    """A state of a git repository."""

    repository: Text = ""
    revision: Text = ""


class Origin(_Part):
    """Where the training code, or the data set, is kept."""

    always = frozenset({"git"})

    git: Repository = Repository()


class ModelConfig(_Part):
    """The config of a model version. Immutable; `model_copy(update=...)` makes a changed one.

    Attributes:
        created: RFC 3339 with its offset, as Go writes it; `times.UNSET` where nobody said.
        gpu_type: of TensorRT engines, which run on no other.
        metrics: group -> measures.
        directory_structure: names of the layer's files, computed when an artifact is made.
    """

    always = frozenset({"created"})

    author: Text = ""
    created: Annotated[str, BeforeValidator(_created)] = times.UNSET
    description: Text = ""
    tags: tuple[Text, ...] = ()
    labels: dict[Text, Text] = {}
    format: Text = ""
    gpu_type: Text = ""
    framework: Text = ""
    metrics: dict[Text, tuple[Measure, ...]] = {}
    hyper_parameters: tuple[Measure, ...] = ()
    signature: Signature | None = None
    training: Origin | None = None
    dataset: Origin | None = None
    directory_structure: tuple[Text, ...] = ()

    def to_json(self) -> bytes:
        """The config blob, to the byte as the original client writes it."""
        return go_json.encode(self.written())

    def to_yaml(self) -> bytes:
        """ormbfile.yaml."""
        return yaml.dump(
            self.written(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, encoding="utf-8", width=1000
        )


def from_json(data: bytes) -> ModelConfig:
    """The config that a blob of an ORMB artifact holds.

    Raises:
        BadArtifact: it is no JSON object, or a field of it cannot be read.
    """
    return from_tree(documents.read_json(data, CONFIG), CONFIG)


def from_yaml(data: bytes) -> ModelConfig:
    """The config that an ormbfile.yaml holds.

    Raises:
        BadArtifact: it is no YAML mapping, or a field of it cannot be read.
    """
    return from_tree(documents.read_yaml(data, ORMBFILE), ORMBFILE)


def from_tree(tree: dict[str, documents.Tree], what: str = CONFIG) -> ModelConfig:
    """The config with these fields; unknown ones are dropped, null ones count as absent.

    Raises:
        BadArtifact: a field cannot be read; the message names it.
    """
    try:
        return ModelConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        raise BadArtifact(f"{what}, field {field[:100]}: {problem}") from error


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML could take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: equal values are written out."""
        return True


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if text[:1] in "+-.0123456789" or text.lower() in ("y", "n"):
        style = "'"
    if any(char in text for char in "\r\x85\u2028\u2029"):
        style = '"'  # a line break of YAML, which only an escape carries as it is
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)
