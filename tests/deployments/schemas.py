"""JSON schemas of custom resources and compose files: of the fields that deployments/ uses, and no others."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
STRING: Schema = {"type": "string", "minLength": 1}
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
HOST: Schema = {"type": "string", "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
DURATION: Schema = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}


def strict(required: list[str] | None = None, **properties: Schema) -> Schema:
    """An object of these fields; all of them are required unless said otherwise."""
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def some(items: Schema, most: int = 64) -> Schema:
    """A list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


META = strict(["name", "namespace"], name=NAME, namespace=NAME, labels={"type": "object"})
CERTIFICATE = strict(kind={"const": "Secret"}, name=NAME)
LISTENER = strict(
    ["name", "port", "protocol"],
    name=NAME,
    port=PORT,
    protocol={"enum": ["HTTP", "HTTPS", "TLS", "TCP"]},
    hostname=HOST,
    tls=strict(mode={"enum": ["Terminate", "Passthrough"]}, certificateRefs=some(CERTIFICATE)),
    allowedRoutes=strict(namespaces=strict(**{"from": {"enum": ["All", "Same", "Selector"]}})),
)
GATEWAY = strict(
    apiVersion={"const": "gateway.networking.k8s.io/v1"},
    kind={"const": "Gateway"},
    metadata=META,
    spec=strict(gatewayClassName=NAME, listeners=some(LISTENER)),
)
BACKEND = strict(["name", "port"], name=NAME, port=PORT, weight={"type": "integer", "minimum": 0})
RULE = strict(
    ["backendRefs"], timeouts=strict(request=DURATION, backendRequest=DURATION), backendRefs=some(BACKEND, 16)
)
HTTP_ROUTE = strict(
    apiVersion={"const": "gateway.networking.k8s.io/v1"},
    kind={"const": "HTTPRoute"},
    metadata=META,
    spec=strict(
        parentRefs=some(strict(name=NAME, sectionName=NAME), 32),
        hostnames=some(HOST, 16),
        rules=some(RULE, 16),
    ),
)
CUSTOM = {"Gateway": GATEWAY, "HTTPRoute": HTTP_ROUTE}
