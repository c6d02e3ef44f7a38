"""What operators of KServe and Seldon do on a cluster: pods for what was applied, and its status."""

from __future__ import annotations

import itertools
import secrets
import subprocess
from collections.abc import Mapping
from typing import Any

from catchment.kubernetes.client import Cluster
from catchment.serving.backends.kserve import KServeBackend
from catchment.serving.backends.seldon import SeldonBackend
from catchment.serving.workload import ServedModel, ServingKey, Workload
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.node import ClusterWithNode
from tests.serving_workloads import model, settings

_numbers = itertools.count(1)
BROKEN, FINE = "example.org/broken:1", "example.org/server:1"


class OperatorHarness:
    """A cluster with an operator. Its pods serve nothing, so that endpoints are addresses only."""

    deadline_s = 60.0
    real_servers = False

    def __init__(self, api: ClusterWithNode, kind: str) -> None:
        self.api = api
        self.processes: dict[str, subprocess.Popen[str]] = {}
        api.script(outcomes.process(self.start), image=FINE)
        api.script(outcomes.crash_loop(1, "no model in there"), image=BROKEN)
        configuration = api.client_configuration()
        configuration.retries = False
        self.cluster = Cluster(settings(), configuration)
        if kind == "kserve":
            api.on_change("inferenceservices", self.for_kserve)
            self.backend: KServeBackend | SeldonBackend = KServeBackend(settings(), self.cluster)
        else:
            api.on_change("seldondeployments", self.for_seldon)
            self.backend = SeldonBackend(settings(), self.cluster)

    def start(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> subprocess.Popen[str]:
        """A process that does nothing, but can be killed."""
        command = ["sh", "-c", "echo loaded; exec sleep 600"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes[pod["metadata"]["uid"]] = process
        return process

    def for_kserve(self, found: dict[str, Any]) -> dict[str, Any]:
        """KServe: a Deployment of the predictor's replicas."""
        predictor = found["spec"]["predictor"]
        self._deploy(found, f"{found['metadata']['name']}-predictor", predictor, predictor["minReplicas"])
        ready = {"type": "Ready", "status": "True"}
        return {"observedGeneration": found["metadata"]["generation"], "conditions": [ready]}

    def for_seldon(self, found: dict[str, Any]) -> dict[str, Any]:
        """Seldon: a Deployment for each predictor, and none beside."""
        owner, wanted = found["metadata"]["name"], {}
        place = found["metadata"]["namespace"]
        for predictor in found["spec"]["predictors"]:
            wanted[f"{owner}-{predictor['name']}"] = predictor
        for each in self.api.list("deployments", place):
            mine = each["metadata"].get("ownerReferences", [{}])[0].get("uid") == found["metadata"]["uid"]
            if mine and each["metadata"]["name"] not in wanted:
                self.api.delete(
                    "deployments", each["metadata"]["name"], place, propagationPolicy="Background"
                )
        for name, predictor in wanted.items():
            self._deploy(found, name, predictor, predictor["replicas"])
        return {"state": "Available"}

    def _deploy(
        self, owner: Mapping[str, Any], name: str, predictor: Mapping[str, Any], replicas: int
    ) -> None:
        labels = {"pod-of": name, **predictor["labels"]}
        image = BROKEN if "broken" in predictor["annotations"]["catchment.io/model"] else FINE
        container = {"name": "classifier", "image": image}
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        made = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "ownerReferences": [reference]},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"pod-of": name}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
        place = owner["metadata"]["namespace"]
        if self.api.get("deployments", name, place) is None:
            self.api.create("deployments", made, place)
        else:
            self.api.edit("deployments", name, lambda live: {**live, "spec": made["spec"]}, place)

    def serving(self) -> ServingKey:
        return ServingKey("default", f"digits-{next(_numbers)}", secrets.token_hex(16))

    def model(self, kind: str = "identity") -> ServedModel:
        return model(reference=f"default/{kind}:v{next(_numbers)}")

    def crash(self, workload: Workload) -> None:
        for pod in self.api.list("pods"):
            if pod["metadata"]["labels"]["catchment.io/workload"] == workload.key:
                self.processes[pod["metadata"]["uid"]].kill()

    def close(self) -> None:
        self.cluster.close()
