"""A real API server with the double's node and controllers behind it: to tests what the double is.

What the double does wrong on demand (`fail`, `cut`, …) a real server does not, and `asked` is not known.
"""

from __future__ import annotations

from pathlib import Path

from tests.kubernetes_double.node import ClusterWithNode
from tests.kubernetes_double.objects import Object
from tests.kubernetes_double.problems import gone_is_fine
from tests.real_kubernetes import remote
from tests.real_kubernetes.kubelet_logs import LogServer
from tests.real_kubernetes.remote import RemoteObjects
from tests.real_kubernetes.server import ISSUER, Running

USED = (
    *("seldondeployments", "inferenceservices", "httproutes", "deployments", "jobs", "pods", "services"),
    *("configmaps", "secrets", "poddisruptionbudgets", "events"),
)
OWN = ("kubernetes", "kube-root-ca.crt")
"""Objects that the server makes for itself."""


class RealCluster(ClusterWithNode):
    """The server and a node at work, for the time of a `with` block; what is in its namespaces goes with it.

    Args:
        server: that runs.
        namespaces: that exist.
    """

    objects: RemoteObjects

    def __init__(self, server: Running, namespaces: tuple[str, ...] = ("default",)) -> None:
        self.server, self.namespaces = server, namespaces
        super().__init__(RemoteObjects(server), server.token)
        self.controllers.delete, self.controllers.collect = remote.delete, remote.collect
        pods = self.objects.resource("pods")
        certificate, key = server.authority, server.authority.with_suffix(".key")
        self._kubelet_port = LogServer(
            self.logs,
            lambda namespace, name: self.objects.get(pods, namespace, name),
            certificate,
            key,
            self.broken,
        )

    def __enter__(self) -> RealCluster:
        for name in self.namespaces:
            self.make("namespaces", "", {"metadata": {"name": name}})
        self._kubelet_port.begin()
        self._make_node()
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.end()
        finally:
            self._kubelet_port.end()
            self._remove_everything()
            self.objects.close()

    @property
    def url(self) -> str:
        """`https://127.0.0.1:port`."""
        return self.server.url

    def authority(self) -> Path:
        """The server's own."""
        return self.server.authority

    def make(self, plural: str, namespace: str, new: Object) -> None:
        """Have an object there that an earlier test may have made."""
        resource = self.objects.resource(plural)
        if self.objects.find(resource, namespace, new["metadata"]["name"]) is None:
            self.objects.create(resource, namespace, new)

    def token_of(self, namespace: str, account: str) -> str:
        """A token of a service account, as its pods are given one."""
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [ISSUER]},
        }
        where = remote.path(self.objects.resource("serviceaccounts"), namespace, account)
        return str(self.objects.ask("POST", f"{where}/token", asked)["status"]["token"])

    def expire_watches(self) -> None:
        """Watches of ConfigMaps that go on from now or earlier get 410 Gone."""
        maps = self.objects.resource("configmaps")
        made = [self.objects.create(maps, "default", {"metadata": {"name": f"late-{n}"}}) for n in range(2)]
        for each in made:
            self.objects.remove(maps, "default", each["metadata"]["name"])
        self.server.forget_changes(made[-1]["metadata"]["resourceVersion"])

    def _make_node(self) -> None:
        nodes = self.objects.resource("nodes")
        self.make("nodes", "", {"metadata": {"name": "node-1"}})

        def edit(live: Object) -> Object:
            endpoint = {"kubeletEndpoint": {"Port": self._kubelet_port.port}}
            addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
            return {**live, "status": {"addresses": addresses, "daemonEndpoints": endpoint}}

        self.objects.change(nodes, "", "node-1", edit, status=True)

    def _remove_everything(self) -> None:
        for resource in map(self.objects.resource, USED):
            for namespace in self.namespaces:
                for each in self.objects.list(resource, namespace):
                    if each["metadata"]["name"] not in OWN:
                        options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
                        with gone_is_fine(409):
                            remote.delete(
                                self.objects, resource, namespace, each["metadata"]["name"], options
                            )
        remote.collect(self.objects)
