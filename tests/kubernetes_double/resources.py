"""Which kinds of objects the double knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """One kind, with its place in the API.

    Attributes:
        status, scale: whether it has that subresource.
        custom: defined by a CustomResourceDefinition: lists in it are replaced as a whole.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    scale: bool = False
    custom: bool = False

    @property
    def api_version(self) -> str:
        """As objects name it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As messages name it, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES = (
    Resource("", "v1", "namespaces", "Namespace", namespaced=False, status=True),
    Resource("", "v1", "nodes", "Node", namespaced=False, status=True),
    Resource("", "v1", "pods", "Pod", status=True),
    Resource("", "v1", "services", "Service", status=True),
    Resource("", "v1", "endpoints", "Endpoints"),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", status=True),
    Resource("", "v1", "events", "Event"),
    Resource("apps", "v1", "deployments", "Deployment", status=True, scale=True),
    Resource("batch", "v1", "jobs", "Job", status=True),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress", status=True),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", status=True),
    Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", status=True),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", status=True, custom=True),
    Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway", status=True, custom=True),
    Resource(
        "serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService", status=True, custom=True
    ),
    Resource("serving.kserve.io", "v1alpha1", "servingruntimes", "ServingRuntime", status=True, custom=True),
    Resource(
        "serving.kserve.io",
        "v1alpha1",
        "clusterservingruntimes",
        "ClusterServingRuntime",
        namespaced=False,
        status=True,
        custom=True,
    ),
    Resource(
        "machinelearning.seldon.io",
        "v1",
        "seldondeployments",
        "SeldonDeployment",
        status=True,
        scale=True,
        custom=True,
    ),
)


def without(groups: tuple[str, ...]) -> tuple[Resource, ...]:
    """The resources of a cluster in which these API groups are not installed."""
    return tuple(resource for resource in RESOURCES if resource.group not in groups)
