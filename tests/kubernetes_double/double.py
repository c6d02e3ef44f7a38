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

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes_double import deleting, resources
from tests.kubernetes_double.controllers import Controllers, Hook
from tests.kubernetes_double.faults import Fault, Faults
from tests.kubernetes_double.kubelet import Kubelet
from tests.kubernetes_double.logs import Logs
from tests.kubernetes_double.objects import Object, Objects
from tests.kubernetes_double.outcomes import Outcome, Script
from tests.kubernetes_double.server import Asked, Server

TOKEN = "a-token-of-the-double"
TICK_S = 0.05
log = logging.getLogger(__name__)


class KubernetesDouble:
    """One cluster with one node, for the time of a `with` block.

    Args:
        namespaces: that exist; others answer 404 on writes.
        without: API groups that are not installed, such as "serving.kserve.io".
        token: that every request must bear; "" asks for none.
    """

    def __init__(
        self, namespaces: tuple[str, ...] = ("default",), without: tuple[str, ...] = (), token: str = TOKEN
    ) -> None:
        self.objects = Objects(resources.without(without))
        self.logs, self.faults, self._script = Logs(), Faults(), Script()
        self.kubelet = Kubelet(self.objects, self.logs, self._script)
        self.controllers = Controllers(self.objects)
        self.token = token
        self._server = Server(self.objects, self.logs, self.faults, token)
        self._over = threading.Event()
        self._paused = threading.Event()
        self._broken: list[BaseException] = []
        self._turn = threading.Lock()
        self._threads = [
            threading.Thread(
                target=self._server.serve_forever, args=(0.05,), name="kubernetes-api", daemon=True
            ),
            threading.Thread(target=self._work, name="kubernetes-node", daemon=True),
        ]
        for name in namespaces:
            self.objects.create(self.objects.resource("namespaces"), "", {"metadata": {"name": name}})

    def __enter__(self) -> KubernetesDouble:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.over = True
        with self.objects.changed:
            self.objects.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(20)
        self.kubelet.forget(set())
        if self._broken:
            raise self._broken[0]

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[Asked]:
        """Every request so far, oldest first."""
        return self._server.asked

    def client_configuration(self, token: str | None = None) -> Any:
        """A `kubernetes.client.Configuration`."""
        from kubernetes.client import Configuration

        configuration = Configuration(host=self.url)
        configuration.api_key["authorization"] = f"Bearer {self.token if token is None else token}"
        return configuration

    def kubeconfig(
        self, path: Path, context: str = "double", namespace: str = "default", token: str | None = None
    ) -> Path:
        """Write a kubeconfig file; its path."""
        named = {"cluster": "double", "user": "tester", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": "double", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": {"token": self.token if token is None else token}}],
            "contexts": [{"name": context, "context": named}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def script(
        self,
        outcome: Outcome,
        image: str = "*",
        labels: Mapping[str, str] | None = None,
        container: str = "",
        times: int | None = None,
    ) -> None:
        """What containers do that fit: of this image (a pattern) and name, with these labels on their pod."""
        self._script.add(outcome, image, labels, container, times)

    def on_change(self, plural: str, hook: Hook) -> None:
        """Call `hook(object)` once for each generation of a kind's objects; it returns their status."""
        self.controllers.hooks[plural] = hook
        self._wake()

    def set_status(self, plural: str, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Write an object's status, as its controller would."""
        resource = self.objects.resource(plural)
        self.controllers.set_status(resource, self.objects.get(resource, namespace, name), status)

    def get(self, plural: str, name: str, namespace: str = "default") -> Object | None:
        """An object as it is, or None."""
        return self.objects.find(self.objects.resource(plural), namespace, name)

    def list(self, plural: str, namespace: str = "default") -> list[Object]:
        """All of a kind in a namespace; "" for all namespaces."""
        return self.objects.list(self.objects.resource(plural), namespace)

    def create(self, plural: str, new: Object, namespace: str = "default") -> Object:
        """Put something there, as somebody else would."""
        return self.objects.create(self.objects.resource(plural), namespace, new, "somebody-else")

    def edit(
        self, plural: str, name: str, edit: Callable[[Object], Object], namespace: str = "default"
    ) -> Object:
        """Change something, as somebody else would, and so own what was changed."""
        return self.objects.change(
            self.objects.resource(plural), namespace, name, edit, manager="somebody-else"
        )

    def delete(self, plural: str, name: str, namespace: str = "default", **options: Any) -> None:
        """Delete something from outside; `propagationPolicy` and `gracePeriodSeconds` as in DeleteOptions."""
        deleting.delete(self.objects, self.objects.resource(plural), namespace, name, options)

    def evict(
        self, name: str, namespace: str = "default", message: str = "The node was low on resource: memory. "
    ) -> None:
        """Evict a pod."""
        with self._turn:
            self.kubelet.evict(self.objects.get(self.objects.resource("pods"), namespace, name), message)

    def finish(self, name: str, code: int = 0, reason: str = "", namespace: str = "default") -> None:
        """End the containers of a pod that runs on."""
        pod = self.objects.get(self.objects.resource("pods"), namespace, name)
        with self._turn:
            self.kubelet.finish(pod["metadata"]["uid"], code, reason or ("Error" if code else "Completed"))
        self._wake()

    def say(self, name: str, text: str, container: str, namespace: str = "default") -> None:
        """Add lines to a container's log."""
        pod = self.objects.get(self.objects.resource("pods"), namespace, name)
        self.logs.say(pod["metadata"]["uid"], container, text)

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
        """Answer so much later."""
        self.faults.waiting.append(Fault("slow", verb=verb, resource=resource, times=times, seconds=seconds))

    def allow(self) -> None:
        """No more faults."""
        self.faults.waiting.clear()

    def expire_watches(self) -> None:
        """Watches that go on from now or earlier get 410 Gone."""
        self.objects.expire()

    def pause(self) -> None:
        """Node and controllers do nothing until `resume`."""
        with self._turn:
            self._paused.set()

    def resume(self) -> None:
        """Node and controllers go on."""
        self._paused.clear()
        self._wake()

    def wait_for(
        self,
        plural: str,
        test: Callable[[list[Object]], Any],
        namespace: str = "default",
        timeout_s: float = 20.0,
    ) -> list[Object]:
        """Wait until `test` holds for all objects of a kind in a namespace; these objects."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self.objects.changed:
                found = self.list(plural, namespace)
                if test(found):
                    return found
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._broken:
                    raise AssertionError(f"waited {timeout_s:g} s in vain; the {plural} are {found}")
                self.objects.changed.wait(left_s)

    def _wake(self) -> None:
        with self.objects.changed:
            self.objects.changed.notify_all()

    def _work(self) -> None:
        """Node and controllers: one pass after each change, and now and then for clocks and processes."""
        seen = -1
        try:
            while not self._over.is_set():
                with self.objects.changed:
                    if self.objects.version == seen:
                        self.objects.changed.wait(TICK_S)
                    seen = self.objects.version
                with self._turn:
                    if not self._paused.is_set():
                        self._pass()
        except BaseException as error:
            self._broken.append(error)
            log.exception("the double's node is broken")
            self._wake()
            raise

    def _pass(self) -> None:
        self.controllers.sync()
        pods = self.objects.list(self.objects.resource("pods"))
        self.kubelet.forget({pod["metadata"]["uid"] for pod in pods})
        for pod in pods:
            self.kubelet.advance(pod)
