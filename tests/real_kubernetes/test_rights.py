"""What the Roles of `deployments` give is enough for what Catchment does, and for no more."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from catchment.errors import ClusterRefused
from catchment.kubernetes import kinds
from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import Kind
from catchment.model_jobs.kubernetes import manifests
from catchment.serving.backends.kserve import KServeBackend
from catchment.serving.backends.kubernetes import KubernetesBackend
from catchment.serving.backends.seldon import SeldonBackend
from catchment.serving.workload import ServingKey, Workload
from catchment.site.pods.access import ClusterAccess, Jobs
from tests.conftest import wait_until
from tests.deployments.conftest import KUBERNETES, SITE
from tests.deployments.kustomizing import render
from tests.kubernetes_double import outcomes
from tests.real_kubernetes.cluster import RealCluster
from tests.real_kubernetes.older import OlderCluster
from tests.real_kubernetes.server import Running
from tests.real_kubernetes.trainings import training
from tests.serving_operators import OperatorHarness
from tests.serving_workloads import settings, workload

PLACE, HOME = "catchment-serving", "catchment"
GIVEN = settings(
    kubernetes_namespace=PLACE,
    serving_readiness_gate=True,
    model_job_image="registry.example.org/catchment-{backend}:1.0",
    model_job_api_url="http://api.catchment:8080",
)
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")


@pytest.fixture
def deployed(apiserver: Running) -> Iterator[RealCluster]:
    """A cluster with the accounts and roles of deployments/kubernetes."""
    with RealCluster(apiserver, (HOME, PLACE)) as api:
        _accounts(api, KUBERNETES / "overlays" / "single")
        api.script(outcomes.succeeds("fetched"), container="classifier-model-initializer")
        yield api


def _accounts(api: RealCluster, folder: Path) -> None:
    for found in render(folder):
        if found["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            api.make(f"{found['kind'].lower()}s", found["metadata"]["namespace"], found)


@pytest.fixture(params=["api", "runner"])
def cluster(request: pytest.FixtureRequest, deployed: RealCluster) -> Iterator[Cluster]:
    """The cluster as one of the two that may ask it."""
    token = deployed.token_of(HOME, request.param)
    with OlderCluster(GIVEN, deployed.client_configuration(token)) as opened:
        yield opened


def ready(backend: KubernetesBackend | KServeBackend | SeldonBackend, wanted: Workload) -> None:
    wait_until(lambda: backend.observe(wanted).state == "ready", timeout_s=30, what="a ready workload")


def test_a_rollout_on_plain_kubernetes_needs_no_other_right(cluster: Cluster) -> None:
    backend = KubernetesBackend(GIVEN, cluster, verify=lambda *_: None)
    stable, canary = workload(1, replicas=2), workload(2)
    for each in (stable, canary):
        backend.apply(each)
        ready(backend, each)
    backend.apply(stable.scaled(1))
    ready(backend, stable.scaled(1))
    assert backend.endpoints(canary)
    backend.route(stable.serving, {stable.key: 95, canary.key: 5})
    assert backend.routed(stable.serving) == {stable.key: 95, canary.key: 5}
    pod = backend.pods(stable.serving)[0]["metadata"]["name"]
    lines = backend.log_lines(stable.serving.namespace, pod, "classifier-model-initializer", 5)
    assert [text for _, text in lines] == ["fetched"]
    backend.remove(stable.serving, [stable.key])
    wait_until(lambda: backend.remove_all(stable.serving), timeout_s=30, what="the end of everything")


@pytest.mark.parametrize("kind", ["kserve", "seldon"])
def test_a_rollout_with_an_operator_needs_no_other_right(
    deployed: RealCluster, cluster: Cluster, kind: str
) -> None:
    OperatorHarness(deployed, kind).close()
    backend = (KServeBackend if kind == "kserve" else SeldonBackend)(GIVEN, cluster)
    serving = ServingKey("team", "digits", secrets.token_hex(16))
    stable, canary = workload(1, serving=serving), workload(2, serving=serving)
    for each in (stable, canary):
        backend.apply(each)
        ready(backend, each)
    backend.route(serving, {stable.key: 95, canary.key: 5})
    assert backend.routed(serving) == {stable.key: 95, canary.key: 5}
    backend.remove(serving, [canary.key])
    wait_until(lambda: backend.remove_all(serving), timeout_s=30, what="the end of everything")


def test_a_step_of_a_model_job_needs_no_other_right(deployed: RealCluster, cluster: Cluster) -> None:
    deployed.script(outcomes.succeeds("read"), image="registry.example.org/catchment-*")
    step = manifests.StepJob(secrets.token_hex(16), "extract", "default/job", "extraction")
    made = cluster.create(manifests.job(step, GIVEN), PLACE)
    cluster.apply(manifests.secret(step, "token", made["metadata"]["uid"]), PLACE, force=True)
    assert cluster.find(kinds.SECRET, PLACE, step.name)

    def complete() -> bool:
        found = cluster.get(kinds.JOB, PLACE, step.name)
        return any(each["type"] == "Complete" for each in found.get("status", {}).get("conditions", []))

    wait_until(complete, timeout_s=30, what="the end of the Job")
    (pod,) = cluster.list(kinds.POD, PLACE, f"job-name={step.name}")
    lines = cluster.log(PLACE, pod["metadata"]["name"], manifests.EXECUTOR, tail=5)
    assert [text for _, text in lines] == ["read"]
    (job,) = cluster.list(kinds.JOB, PLACE, f"{manifests.UID_LABEL}={step.uid}")
    assert cluster.delete(kinds.JOB, PLACE, job["metadata"]["name"])
    deployed.wait_for("secrets", lambda found: not found, PLACE)


def test_nothing_else_is_allowed(cluster: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": []}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {}}
    refused = (
        lambda: cluster.list(kinds.SECRET, PLACE),
        lambda: cluster.delete(kinds.SECRET, PLACE, "x"),
        lambda: cluster.create(pod, PLACE),
        lambda: cluster.delete(kinds.POD, PLACE, "x"),
        lambda: cluster.get(kinds.CONFIG_MAP, PLACE, "x"),
        lambda: cluster.get(ROLE, PLACE, "serving"),
        lambda: cluster.patch_status(kinds.DEPLOYMENT, PLACE, "x", {}),
        lambda: list(cluster.watch(kinds.POD, PLACE, deadline_s=1)),
        lambda: cluster.get(kinds.SECRET, HOME, "catchment-store"),
        lambda: cluster.list(kinds.POD, HOME),
        lambda: cluster.apply(service, HOME),
        lambda: cluster.list(kinds.DEPLOYMENT, "default"),
    )
    for ask in refused:
        with pytest.raises(ClusterRefused, match="the right to"):
            ask()


def test_an_agent_needs_no_other_right(apiserver: Running, tmp_path: Path) -> None:
    place = "catchment-site"
    with RealCluster(apiserver, (place,)) as api:
        api.script(outcomes.runs())
        _accounts(api, SITE / "jobs")
        for name, text in (("token", api.token_of(place, "agent")), ("namespace", place)):
            (tmp_path / name).write_text(text)
        shutil.copyfile(api.authority(), tmp_path / "ca.crt")
        jobs, labels = Jobs(ClusterAccess(api.url, tmp_path)), {"catchment.io/site": "a"}
        for _ in range(2):  # the second time as after an answer that was lost
            jobs.create(training("one", labels))
        running = lambda: (jobs.pod("one") or {}).get("status", {}).get("phase") == "Running"  # noqa: E731
        wait_until(running, timeout_s=30, what="the pod of the training")
        assert jobs.named(labels) == ["one"]
        jobs.delete("one")
        api.wait_for("pods", lambda found: not found, place)
        jobs.delete("one")
        assert (jobs.named(labels), jobs.pod("one")) == ([], None)
        with OlderCluster(GIVEN, api.client_configuration(api.token_of(place, "agent"))) as agent:
            for ask in (
                lambda: agent.list(kinds.SECRET, place),
                lambda: agent.get(kinds.JOB, place, "one"),
                lambda: agent.log(place, "one", "script"),
                lambda: agent.list(kinds.JOB, "default"),
            ):
                with pytest.raises(ClusterRefused):
                    ask()


def test_everybody_else_may_nothing(deployed: RealCluster) -> None:
    with OlderCluster(GIVEN, deployed.client_configuration(deployed.token_of(HOME, "none"))) as nobody:
        for kind in (kinds.POD, kinds.DEPLOYMENT, kinds.JOB):
            with pytest.raises(ClusterRefused):
                nobody.list(kind, PLACE)
