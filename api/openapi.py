"""The OpenAPI 3.1 document: `python -m api.openapi` writes docs/openapi.json, `--check` compares it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from api.schemas import MESSAGES

FILE = Path(__file__).parent.parent / "docs" / "openapi.json"
FOREIGN = ("HTTPValidationError", "ValidationError")
"""FastAPI's own error shapes, which no answer has."""
NAMES = {
    "catchment__jobs__spec__Resource": "Resource",
    "catchment__wire__messages__Resource": "WorkResource",
    "catchment__jobs__spec__Loss__Params": "LossParams",
    "catchment__jobs__spec__Optimizer__Params": "OptimizerParams",
}
"""Names for schemas whose own names are not unique."""


def install(app: FastAPI) -> None:
    """Make `app` serve the completed document."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _renamed(_complete(described()))
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for name in FOREIGN:
        schemas.pop(name, None)
    _, messages = models_json_schema(
        [(model, "validation") for model in MESSAGES], ref_template="#/components/schemas/{model}"
    )
    document["components"]["schemas"] = {**messages["$defs"], **schemas}
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "Needed where auth is 'tokens'."}
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None) if _is_foreign(operation) else None
            _name_problems(operation)
            open_to_all = path in ("/api/v1/health", "/readyz")
            operation["security"] = [] if open_to_all else [{"token": []}, {}]
    return document


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(document)
    for long, short in NAMES.items():
        text = text.replace(long, short)
    renamed: dict[str, Any] = json.loads(text)
    renamed["components"]["schemas"] = dict(sorted(renamed["components"]["schemas"].items()))
    return renamed


def _is_foreign(operation: dict[str, Any]) -> bool:
    return "HTTPValidationError" in json.dumps(operation["responses"].get("422", ""))


def _name_problems(operation: dict[str, Any]) -> None:
    """Problem details have a media type of their own."""
    for response in operation["responses"].values():
        content = response.get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith("/Problem"):
            content["application/problem+json"] = content.pop("application/json")


def text() -> str:
    """The document as it is committed."""
    from api.app import create_app
    from catchment.settings import Settings

    return json.dumps(create_app(Settings()).openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the file; 1 when it is not current."""
    current = text()
    if "--check" in arguments:
        if FILE.exists() and FILE.read_text() == current:
            return 0
        print("docs/openapi.json is not current; run 'python -m api.openapi'", file=sys.stderr)
        return 1
    FILE.write_text(current)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
