"""Where in the API the kinds of objects are that Catchment works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Kind:
    """One kind of objects.

    Attributes:
        api_version: as objects name it, `apps/v1`.
        kind: as objects name it, `Deployment`.
        plural: as paths name it, `deployments`.
    """

    api_version: str
    kind: str
    plural: str

    @property
    def words(self) -> str:
        """For messages, `deployments.apps`."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Of one object, or of all in a namespace."""
        root = "apis" if "/" in self.api_version else "api"
        parts = [root, self.api_version, "namespaces", quote(namespace, safe=""), self.plural]
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/" + "/".join(parts)


POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
EVENT = Kind("v1", "Event", "events")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
JOB = Kind("batch/v1", "Job", "jobs")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
SERVING_RUNTIME = Kind("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes")
SELDON_DEPLOYMENT = Kind("machinelearning.seldon.io/v1", "SeldonDeployment", "seldondeployments")

KINDS = {
    (each.api_version, each.kind): each
    for each in (
        *(POD, SERVICE, SECRET, CONFIG_MAP, SERVICE_ACCOUNT, EVENT, DEPLOYMENT, JOB),
        *(NETWORK_POLICY, DISRUPTION_BUDGET, AUTOSCALER, HTTP_ROUTE),
        *(INFERENCE_SERVICE, SERVING_RUNTIME, SELDON_DEPLOYMENT),
    )
}


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest. Raises LookupError for one that is not in the table."""
    named = (manifest.get("apiVersion", ""), manifest.get("kind", ""))
    if named not in KINDS:
        raise LookupError(f"{named[0]} {named[1]} is no kind that Catchment works with")
    return KINDS[named]
