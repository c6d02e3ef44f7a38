"""The HTTPRoute of a serving: Gateway API's v1, weights by workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from catchment.errors import InvalidField
from catchment.serving.manifests.names import (
    Manifest,
    check_dns_label,
    check_weights,
    cluster_namespace,
    serving_labels,
)
from catchment.serving.workload import ServingKey
from catchment.settings import Settings

API_VERSION = "gateway.networking.k8s.io/v1"


def http_route(
    serving: ServingKey,
    weights: Mapping[str, int],
    settings: Settings,
    *,
    port: int,
    service: Callable[[str], str] = str,
) -> Manifest:
    """The route of a serving's traffic.

    Both of Catchment's addresses lead there, /seldon/<namespace>/<serving>/... and /serving/..., without the
    prefix; so a client need not know whether Catchment's gateway or the cluster's answers.

    Args:
        serving: whose traffic.
        weights: percent by workload key, 100 together.
        settings: name the gateways and host names.
        port: of the services.
        service: the service's name by the workload's key.

    Raises:
        InvalidField: the weights, or a gateway's name.
    """
    check_weights(weights)
    if not weights:
        raise InvalidField("traffic", "a route leads somewhere: name a workload")
    backends = [
        {"name": service(key), "port": port, "weight": weight} for key, weight in sorted(weights.items())
    ]
    spec: dict[str, Any] = {
        "rules": [{"matches": _matches(serving), "filters": _filters(), "backendRefs": backends}]
    }
    if parents := parent_refs(settings):
        spec["parentRefs"] = parents
    if hosts := [each.strip() for each in settings.serving_host.split(",") if each.strip()]:
        spec["hostnames"] = hosts
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": {
            "name": route_name(serving),
            "namespace": cluster_namespace(serving, settings),
            "labels": serving_labels(serving),
        },
        "spec": spec,
    }


def route_name(serving: ServingKey) -> str:
    """The name of a serving's route."""
    return serving.name.lower()


def weights_of(route: Mapping[str, Any], key: Callable[[str], str] = str) -> dict[str, int]:
    """The weights that a route says, by workload; `key` is the inverse of http_route's `service`."""
    rules = route.get("spec", {}).get("rules") or [{}]
    return {key(each["name"]): int(each.get("weight", 1)) for each in rules[0].get("backendRefs") or []}


def parent_refs(settings: Settings) -> list[dict[str, str]]:
    """The gateways, as HTTPRoutes name them. Raises InvalidField."""
    named = [each.strip() for each in settings.serving_gateways.split(",") if each.strip()]
    return [_parent(each) for each in named]


def _parent(text: str) -> dict[str, str]:
    parts = text.split("/")
    if len(parts) not in (2, 3):
        raise InvalidField(
            "CATCHMENT_SERVING_GATEWAYS", f"{text[:80]!r} is not NAMESPACE/NAME or NAMESPACE/NAME/SECTION"
        )
    for part in parts:
        check_dns_label(part, "CATCHMENT_SERVING_GATEWAYS")
    section = {"sectionName": parts[2]} if len(parts) == 3 else {}
    return {"namespace": parts[0], "name": parts[1], **section}


def _matches(serving: ServingKey) -> list[dict[str, Any]]:
    return [
        {"path": {"type": "PathPrefix", "value": f"/{root}/{serving.namespace}/{serving.name}"}}
        for root in ("seldon", "serving")
    ]


def _filters() -> list[dict[str, Any]]:
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    return [{"type": "URLRewrite", "urlRewrite": rewrite}]
