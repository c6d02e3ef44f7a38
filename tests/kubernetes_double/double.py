"""A Kubernetes API server to test against: real sockets, real state, a fake node behind it.

```python
from tests.kubernetes_double.double import KubernetesDouble
from tests.kubernetes_double import outcomes

with KubernetesDouble() as api:
    configuration = api.client_configuration()          # for kubernetes.client.ApiClient(configuration)
    api.kubeconfig(tmp_path / "kubeconfig")             # or a file that names it, with the token
    api.script(outcomes.fails(19, log="no"), image="catchment/convert-*")      # what containers do
    api.script(outcomes.process(start_server, ready=answers), labels={"app": "digits"})
    api.on_change("inferenceservices", lambda found: {"conditions": [...]})    # statuses of custom resources
    api.fail("create", "jobs", 500, times=2); api.forbid("patch", "deployments"); api.cut("get", "pods")
    api.wait_for("pods", lambda pods: len(pods) == 2, namespace="default")
```

Pods of Jobs succeed and pods of Deployments run and are ready, unless a script says otherwise: the last
line that fits a container's image and name and its pod's labels wins; `times=1` is used up after one pod.
What the server checks of built-in kinds are the official schemas (package kubernetes-validate). Custom
resources are taken as they are, apart from the ports and weights of HTTPRoutes. Unlike a real one it has no
admission plugins, fills in no defaults, knows no quota, no ReplicaSets (pods belong to their Deployment),
and no network: a Service and a route carry nothing.
"""

from __future__ import annotations

import threading

from tests.kubernetes_double import resources
from tests.kubernetes_double.faults import Fault, Faults
from tests.kubernetes_double.node import ClusterWithNode
from tests.kubernetes_double.objects import Objects
from tests.kubernetes_double.server import Asked, Server

TOKEN = "a-token-of-the-double"


class KubernetesDouble(ClusterWithNode):
    """One cluster with one node, for the time of a `with` block.

    Args:
        namespaces: that exist; others answer 404 on writes.
        without: API groups that are not installed, such as "serving.kserve.io".
        token: that every request must bear; "" asks for none.
    """

    def __init__(
        self, namespaces: tuple[str, ...] = ("default",), without: tuple[str, ...] = (), token: str = TOKEN
    ) -> None:
        super().__init__(Objects(resources.without(without)), token)
        self.faults = Faults()
        self._server = Server(self.objects, self.logs, self.faults, token, self.broken)
        self._answering = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="kubernetes-api", daemon=True
        )
        for name in namespaces:
            self.objects.create(self.objects.resource("namespaces"), "", {"metadata": {"name": name}})

    def __enter__(self) -> KubernetesDouble:
        self._answering.start()
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.over = True
        self._server.shutdown()
        self._server.server_close()
        self._answering.join(20)
        self.end()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[Asked]:
        """Every request so far, oldest first."""
        return self._server.asked

    def fail(
        self,
        verb: str = "",
        resource: str = "",
        code: int = 500,
        times: int = 1,
        message: str = "the server is out of order",
        retry_after_s: int | None = None,
    ) -> None:
        """Answer the next requests with an error; "" stands for any verb or kind (`pods/log` for logs)."""
        self.faults.waiting.append(
            Fault("answer", code, message, verb, resource, times, retry_after_s=retry_after_s)
        )

    def forbid(self, verb: str, resource: str, times: int = 1_000_000) -> None:
        """Answer 403, as without the right; `allow` ends it."""
        told = f'{resource} is forbidden: User "tester" cannot {verb} resource "{resource}"'
        self.faults.waiting.append(Fault("answer", 403, told, verb, resource, times))

    def cut(self, verb: str = "", resource: str = "", times: int = 1, *, after: bool = False) -> None:
        """Close the connection without an answer; `after`: once the request was carried out."""
        self.faults.waiting.append(Fault("cut", verb=verb, resource=resource, times=times, after=after))

    def slow(self, seconds: float, verb: str = "", resource: str = "", times: int = 1) -> None:
        """Answer so much later, or as soon as `allow` is called."""
        self.faults.waiting.append(Fault("slow", verb=verb, resource=resource, times=times, seconds=seconds))

    def allow(self) -> None:
        """No more faults."""
        self.faults.waiting.clear()
        self._wake()

    def expire_watches(self) -> None:
        """Watches that go on from now or earlier get 410 Gone."""
        self.objects.expire()
