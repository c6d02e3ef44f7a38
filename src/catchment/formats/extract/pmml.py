"""PMML: the fields of the outermost model, read as a stream and only as far as they stand."""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, TensorSpec, shown

MAX_FIELDS = 100_000
_PIECE = 2**16
_NO_MODELS = ("Header", "MiningBuildTask", "DataDictionary", "TransformationDictionary", "Extension")
_BEFORE_THE_REST = ("Extension", "MiningSchema", "Output", "ModelStats", "ModelExplanation", "Targets")
"""What may stand in a model before what it computes with."""
_TARGETS = ("target", "predicted")


def read(folder: ModelFolder) -> Extracted:
    """The active fields as inputs; output fields and targets as outputs. Types are PMML's own."""
    name = folder.one("*.pmml")
    reader = _Reader()
    with folder.opened(name) as file:
        tail_at = max(file.seek(0, 2) - 4096, 0)
        file.seek(tail_at)
        if b"PMML>" not in file.read():
            raise ExtractionFailed(f"{shown(name)} is no PMML, or cut off: it does not end with </PMML>")
        file.seek(0)
        try:
            while not reader.done and (piece := file.read(_PIECE)):
                reader.feed(piece)
        except expat.ExpatError as error:
            raise ExtractionFailed(f"{shown(name)} is no well-formed XML: {error}") from None
    return reader.extracted(name)


class _Reader:
    """Gathers fields while expat reads.

    Attributes:
        done: the outermost model's fields are all there.
    """

    def __init__(self) -> None:
        self.done = False
        self._path: list[str] = []
        self._model: dict[str, str] = {}
        self._header: dict[str, str] = {}
        self._data: dict[str, TensorSpec] = {}
        self._values: dict[str, list[str]] = {}
        self._roles: list[tuple[str, str]] = []
        self._outputs: list[TensorSpec] = []
        self._fields = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.EntityDeclHandler = _refuse_entity
        self._parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def feed(self, piece: bytes) -> None:
        """Read on."""
        self._parser.Parse(piece, False)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        above = self._path[-1] if self._path else ""
        depth = len(self._path)
        self._path.append(name)
        if len(self._path) > 500 or self._fields > MAX_FIELDS:
            raise ExtractionFailed("the PMML nests elements or names fields far more than it may")
        if depth == 0:
            self._header["version"] = attributes.get("version", "")
        elif depth == 1 and name not in _NO_MODELS and not self._model:
            self._model = {"element": name, **attributes}
        elif above == "Header" and name == "Application":
            self._header["application"] = (
                f"{attributes.get('name', '')} {attributes.get('version', '')}".strip()
            )
        elif above == "DataDictionary" and name == "DataField":
            self._add_data_field(attributes)
        elif above == "DataField" and name == "Value" and attributes.get("property", "valid") == "valid":
            self._add_value(attributes)
        elif self._path[1:-1] == [self._model.get("element"), "MiningSchema"] and name == "MiningField":
            self._roles.append((attributes.get("name", ""), attributes.get("usageType", "active")))
            self._fields += 1
        elif self._path[1:-1] == [self._model.get("element"), "Output"] and name == "OutputField":
            self._outputs.append(_field(attributes))
            self._fields += 1
        elif depth == 2 and self._model and name not in _BEFORE_THE_REST:
            self.done = True

    def _end(self, _name: str) -> None:
        self._path.pop()

    def _add_data_field(self, attributes: dict[str, str]) -> None:
        field = _field(attributes)
        self._data[field.name] = field
        self._values[field.name] = []
        self._fields += 1

    def _add_value(self, attributes: dict[str, str]) -> None:
        last = next(reversed(self._values), None)
        if last is not None and "value" in attributes:
            self._values[last].append(attributes["value"])
            self._fields += 1

    def extracted(self, name: str) -> Extracted:
        """What was gathered."""
        if not self._model:
            raise ExtractionFailed(f"{shown(name)} holds no model")
        inputs = tuple(self._known(field) for field, role in self._roles if role == "active")
        targets = tuple(self._known(field) for field, role in self._roles if role in _TARGETS)
        extras: dict[str, Any] = {
            "model": self._model["element"],
            "functionName": self._model.get("functionName", ""),
            "pmmlVersion": self._header.get("version", ""),
        }
        absent = ["layers and parameters: PMML describes a model by its fields"]
        absent += [] if inputs else ["inputs: the model's MiningSchema has no active field"]
        absent += (
            [] if self._outputs or targets else ["outputs: the model names neither output fields nor targets"]
        )
        absent += ["sizes: a field is one value"]
        return Extracted(
            "PMML",
            "PMML",
            self._header.get("application", ""),
            inputs,
            (*self._outputs, *targets),
            extras=extras,
            absent=tuple(absent),
        )

    def _known(self, name: str) -> TensorSpec:
        field = self._data.get(name, TensorSpec(name))
        return TensorSpec(name, None, field.d_type, field.op_type, values=tuple(self._values.get(name, ())))


def _field(attributes: dict[str, str]) -> TensorSpec:
    kind, use = attributes.get("dataType", ""), attributes.get("optype", "")
    return TensorSpec(attributes.get("name", ""), None, kind, use)


def _refuse_entity(name: str, *_: Any) -> None:
    raise ExtractionFailed(
        f"the XML declares an entity {shown(name)}; entities are not read, since they can explode"
    )
