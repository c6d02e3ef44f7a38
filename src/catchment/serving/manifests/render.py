"""A serving's manifests as they would be applied, for people and for other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catchment.errors import InvalidField
from catchment.serving.manifests import kserve, plain, routes, seldon
from catchment.serving.manifests.names import Manifest, check_weights
from catchment.serving.manifests.runtimes import Form
from catchment.serving.workload import Workload
from catchment.settings import Settings


def render(
    workloads: Sequence[Workload], weights: Mapping[str, int], form: Form, settings: Settings
) -> list[Manifest]:
    """The objects of a serving, in the order in which they are applied.

    Args:
        workloads: of one serving, at least one.
        weights: percent by workload key, 100 together; {}: no traffic yet.
        form: "kubernetes", "kserve" or "seldon".
        settings: images, registry, gateways.

    Raises:
        InvalidField: something cannot run in that form; the message says what would be right.
    """
    if not workloads or len({each.serving for each in workloads}) > 1:
        raise InvalidField("predictors", "must be those of one serving, and one at least")
    check_weights(weights)
    if missing := sorted(set(weights) - {each.key for each in workloads}):
        raise InvalidField("traffic", f"{missing[0]} is none of the serving's workloads")
    serving = workloads[0].serving
    if form == "kubernetes":
        made = [each for workload in workloads for each in plain.objects(workload, settings)]
        port = plain.HTTP_PORT
        return [*made, routes.http_route(serving, weights, settings, port=port)] if weights else made
    if form == "seldon":
        return [seldon.seldon_deployment(workloads, weights, settings)]
    if form != "kserve":
        raise InvalidField("form", f"{form!r} is not known; known are kubernetes, kserve and seldon")
    if settings.kserve_mode == "serverless":
        return [kserve.serverless(workloads, weights, settings)]
    made = [kserve.inference_service(each, settings) for each in workloads]
    if not weights:
        return made
    service, port = kserve.service_name, kserve.HTTP_PORT
    return [*made, routes.http_route(serving, weights, settings, port=port, service=service)]
