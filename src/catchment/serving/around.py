"""What stands around a serving's spec: which kind of object it is, its metadata, its annotations."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from catchment.errors import InvalidField
from catchment.findings import invalid_field
from catchment.model_jobs.spec import Metadata
from catchment.serving import seldon

NAME = r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?"
"""A DNS label that leaves room for what is made of it: `<serving>-<predictor>-r<number>`."""
ANNOTATION = "catchment.io/"
"""In a SeldonDeployment, what is Catchment's own stands in annotations: canary, server, backend, runtime."""
_FLAT = frozenset({"name", "namespace", "labels", "annotations"})
"""In the short form the parts of metadata may stand beside the model."""
_AROUND = frozenset({"apiVersion", "kind", "metadata", "status"})


def spec_in(body: Mapping[str, Any]) -> Any:
    """The spec of a body: what it has under `spec`, or, in the short form, what stands at its top.

    Raises:
        InvalidField: it is another kind of object, or something stands beside `spec` that belongs into it.
    """
    kind, version = body.get("kind"), body.get("apiVersion")
    if kind not in (None, "", seldon.KIND):
        raise InvalidField("kind", f"is {kind!r}, must be {seldon.KIND!r}, or left out")
    if version and not str(version).startswith(seldon.GROUP):
        raise InvalidField("apiVersion", f"is {version!r}, must be {seldon.API_VERSION!r}, or left out")
    if "spec" in body:
        for field in sorted(body.keys() - _AROUND - {"spec"}):
            raise InvalidField(field, "cannot stand beside spec; it belongs into spec or metadata")
        return body["spec"]
    around = _AROUND if "metadata" in body else _AROUND | _FLAT
    return {key: value for key, value in body.items() if key not in around}


def metadata_in(body: Mapping[str, Any], namespace: str, name: str | None) -> Metadata:
    """The metadata of a body, with the name that the serving gets.

    Args:
        body: the tree of JSON or YAML.
        namespace: of the path; another one is refused.
        name: of the path, for an update.

    Raises:
        InvalidField: a field is wrong.
    """
    flat = {key: body[key] for key in sorted(_FLAT) if key in body}
    tree = body.get("metadata", flat if "spec" not in body else {})
    try:
        meta = Metadata.model_validate(tree if tree is not None else {})
    except ValidationError as error:
        raise invalid_field(error, "metadata" if "metadata" in body else "") from None
    if meta.namespace not in (None, "", namespace):
        raise InvalidField("metadata.namespace", f"is {meta.namespace!r}, the path names {namespace!r}")
    if name is not None and meta.name not in (None, name):
        raise InvalidField("metadata.name", f"is {meta.name!r}, the path names {name!r}")
    if name is None and meta.name is None and meta.generate_name is not None:
        name = f"{meta.generate_name}{secrets.token_hex(4)}"
    chosen = name or meta.name
    if chosen is None:
        raise InvalidField("metadata.name", "is required: the serving's name")
    if re.fullmatch(NAME, chosen) is None:
        raise InvalidField(
            "metadata.name", f"{chosen!r} must be a DNS label of at most 40 characters, such as 'digits'"
        )
    return meta.model_copy(update={"name": chosen})


def annotation(meta: Metadata, key: str) -> Any:
    """What one of Catchment's own annotations says; None without it. Raises InvalidField."""
    text = meta.annotations.get(ANNOTATION + key)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        field = f"metadata.annotations.{ANNOTATION}{key}"
        raise InvalidField(field, "must be a JSON object") from None


def generation_in(body: Mapping[str, Any]) -> int | None:
    """The resourceVersion that a body bears, None without one. Raises InvalidField."""
    metadata = body.get("metadata")
    said = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if said in (None, ""):
        return None
    if not isinstance(said, str) or re.fullmatch(r"[0-9]{1,9}", said) is None:
        raise InvalidField("metadata.resourceVersion", f"{said!r} is none that GET has answered")
    return int(said)
