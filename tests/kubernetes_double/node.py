"""A fake node and fake controllers over the objects of a cluster, and what a test does to these objects."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes_double.controllers import Controllers, Hook
from tests.kubernetes_double.kubelet import Kubelet
from tests.kubernetes_double.logs import Logs
from tests.kubernetes_double.objects import Object, Objects
from tests.kubernetes_double.outcomes import Outcome, Script

TICK_S = 0.05
LOOK_S = 0.25
"""Who waits looks so often at least: not every API tells of what changes."""
LONGEST_PASS_S = 60.0
"""Longer than one request to a real API server may take."""
log = logging.getLogger(__name__)


class ClusterWithNode:
    """A cluster in which containers do what the test says; its API is the subclasses' matter.

    Args:
        objects: of the cluster.
        token: of who may do everything.
    """

    def __init__(self, objects: Objects, token: str) -> None:
        self.objects, self.token = objects, token
        self.logs, self._script = Logs(), Script()
        self.kubelet = Kubelet(self.objects, self.logs, self._script)
        self.controllers = Controllers(self.objects)
        self._over = threading.Event()
        self._paused = threading.Event()
        self.broken: list[BaseException] = []
        """What has ended one of its threads: whoever waits is told, and in the end the test."""
        self._turn = threading.Lock()
        self._node = threading.Thread(target=self._work, name="kubernetes-node", daemon=True)

    @property
    def url(self) -> str:
        """Where its API is."""
        raise NotImplementedError

    def authority(self) -> Path | None:
        """What vouches for it, if it speaks TLS."""
        return None

    def client_configuration(self, token: str | None = None) -> Any:
        """A `kubernetes.client.Configuration`."""
        from kubernetes.client import Configuration

        configuration = Configuration(host=self.url)
        configuration.api_key["authorization"] = f"Bearer {self.token if token is None else token}"
        if authority := self.authority():
            configuration.ssl_ca_cert = str(authority)
        return configuration

    def kubeconfig(
        self, path: Path, context: str = "double", namespace: str = "default", token: str | None = None
    ) -> Path:
        """Write a kubeconfig file; its path."""
        named = {"cluster": "double", "user": "tester", "namespace": namespace}
        authority = self.authority()
        trusted = {"certificate-authority": str(authority)} if authority else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": "double", "cluster": {"server": self.url, **trusted}}],
            "users": [{"name": "tester", "user": {"token": self.token if token is None else token}}],
            "contexts": [{"name": context, "context": named}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def begin(self) -> None:
        """Node and controllers begin their work."""
        self._node.start()

    def end(self) -> None:
        """They end it, with all processes of containers. Raises what broke them, or a part of the cluster."""
        self._over.set()
        self._wake()
        self._node.join(LONGEST_PASS_S)
        if self._node.is_alive():
            raise AssertionError(f"the node is still at work after {LONGEST_PASS_S:g} s")
        self.kubelet.forget(set())
        if self.broken:
            raise self.broken[0]

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
        self.controllers.delete(self.objects, self.objects.resource(plural), namespace, name, options)

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
        timeout_s: float = 60.0,
    ) -> list[Object]:
        """Wait until `test` holds for all objects of a kind in a namespace; these objects."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self.objects.changed:
                found = self.list(plural, namespace)
                if test(found):
                    return found
                if self.broken:
                    raise AssertionError(f"the cluster is broken: {self.broken[0]!r}") from self.broken[0]
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise AssertionError(f"waited {timeout_s:g} s in vain; the {plural} are {found}")
                self.objects.changed.wait(min(left_s, LOOK_S))

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
            self.broken.append(error)
            log.exception("the double's node is broken")
            self._wake()
            raise

    def _pass(self) -> None:
        self.controllers.sync()
        pods = self.objects.list(self.objects.resource("pods"))
        self.kubelet.forget({pod["metadata"]["uid"] for pod in pods})
        for pod in pods:
            self.kubelet.advance(pod)
