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
    allowedRoutes=strict(
        namespaces=strict(**{"from": {"const": "Selector"}}, selector=strict(matchLabels={"type": "object"}))
    ),
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

TEXT_LIST: Schema = {"type": "array", "items": STRING, "minItems": 1}
VARIABLES: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
HEALTH = strict(
    ["test", "interval", "timeout", "retries"],
    test={"type": "array", "items": STRING, "minItems": 2},
    interval=DURATION,
    timeout=DURATION,
    start_period=DURATION,
    retries={"type": "integer"},
)
CONDITION: Schema = {
    "enum": ["service_started", "service_healthy", "service_completed_successfully"],
}
SERVICE = strict(
    ["image", "user", "read_only", "cap_drop", "security_opt", "restart"],
    image=STRING,
    build=strict(context=STRING, dockerfile=STRING, target=STRING),
    command=TEXT_LIST,
    user={"type": "string", "pattern": r"^[0-9]+:[0-9]+$"},
    restart={"enum": ["no", "unless-stopped"]},
    init={"type": "boolean"},
    read_only={"type": "boolean"},
    cap_drop=TEXT_LIST,
    security_opt=TEXT_LIST,
    logging=strict(driver=STRING, options=VARIABLES),
    tmpfs=TEXT_LIST,
    volumes=TEXT_LIST,
    env_file=TEXT_LIST,
    environment=VARIABLES,
    ports=TEXT_LIST,
    networks=TEXT_LIST,
    network_mode={"type": "string", "pattern": r"^service:[a-z-]+$"},
    depends_on={"type": "object", "additionalProperties": strict(condition=CONDITION)},
    healthcheck=HEALTH,
    profiles=TEXT_LIST,
    mem_limit=STRING,
    cpus=STRING,
)
COMPOSE = strict(
    ["name", "services", "volumes"],
    name=NAME,
    services={"type": "object", "additionalProperties": SERVICE},
    networks={"type": "object", "additionalProperties": strict([], internal={"type": "boolean"})},
    volumes={"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
)
