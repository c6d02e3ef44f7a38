"""The address that an initializer is given: a model in a registry, its digest, and how to lay it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args
from urllib.parse import parse_qsl, urlencode

from catchment.errors import InvalidField
from catchment.registry.references import Reference, check_digest, parse_reference
from catchment.serving.manifests.runtimes import Layout

SCHEME = "catchment://"
FIELD = "SOURCE"


@dataclass(frozen=True)
class ModelSource:
    """Which model, and how its files are to lie.

    Attributes:
        reference: in a registry, with its host.
        digest: of the version's files, which what is fetched must have.
        layout: "files": model/ and ormbfile.yaml; "triton": config.pbtxt and 1/;
            "triton-repository": the same in a folder of the model's name;
            "mlserver": model/ and model-settings.json.
        name: of the model in addresses.
    """

    reference: Reference
    digest: str
    layout: Layout
    name: str

    def __str__(self) -> str:
        query = {"digest": self.digest, "layout": self.layout, "name": self.name}
        return f"{SCHEME}{self.reference}?{urlencode(query, safe=':')}"


def parse_source(text: str) -> ModelSource:
    """`catchment://HOST/project/name:version?digest=sha256:...&layout=...&name=...`.

    Raises:
        InvalidField: it is none; the message says which part is wrong.
    """
    named, _, query = text.removeprefix(SCHEME).partition("?")
    reference = parse_reference(named, field=FIELD)
    if not reference.host:
        raise InvalidField(FIELD, f"{named[:200]!r} names no registry: {SCHEME}HOST/project/name:version?...")
    told = dict(parse_qsl(query))
    for key in ("digest", "layout", "name"):
        if not told.get(key):
            raise InvalidField(FIELD, f"lacks {key}=... after the '?'")
    layout = next((each for each in get_args(Layout) if each == told["layout"]), None)
    if layout is None:
        raise InvalidField(
            FIELD, f"{told['layout'][:40]!r} is no layout; known are {', '.join(get_args(Layout))}"
        )
    if "/" in told["name"] or told["name"].startswith("."):
        raise InvalidField(FIELD, f"{told['name'][:80]!r} is no name of a model")
    return ModelSource(reference, check_digest(told["digest"], field=FIELD), layout, told["name"])
