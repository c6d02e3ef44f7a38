"""Trainings as pods: an agent with `--executor kubernetes`, a cluster whose node really runs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load

from tests.library.site.cluster_double import ClusterDouble
from tests.library.site.conftest import TRAIN, AgentProcess
from tests.library.site.exchange_double import ExchangeDouble
from tests.library.site.isolated import allowed

pytestmark = allowed
Start = Callable[..., AgentProcess]

LOOK = """
import json, os, pathlib, socket
folder = pathlib.Path(os.environ["CATCHMENT_TASK"]).parent
task = json.loads((folder / "task.json").read_text())
def tried(step):
    try:
        return repr(step())
    except OSError as error:
        return type(error).__name__
home = folder.parent.parent.parent
seen = {
    "work": sorted(path.name for path in folder.parent.iterdir()),
    "home": sorted(path.name for path in home.iterdir()),
    "data": sorted(path.name for path in pathlib.Path(task["datasets"]["patients"]).iterdir()),
    "beside": tried(lambda: os.listdir(pathlib.Path(task["datasets"]["patients"]).parent)),
    "write weights": tried(lambda: (folder / "weights.safetensors").write_bytes(b"")),
    "write data": tried(lambda: pathlib.Path(task["datasets"]["patients"], "new").write_bytes(b"")),
    "environment": sorted(name for name in os.environ if name.startswith(("KUBERNETES", "SECRET"))),
}
print(json.dumps(seen))
"""
SLEEP = "import time; print('asleep', flush=True); time.sleep(600)"


@pytest.fixture
def cluster(tmp_path: Path, entries: Path) -> Iterator[ClusterDouble]:
    volumes = {name: tmp_path / "volumes" / name for name in ("home", "datasets", "tmp")}
    volumes["entries"] = entries
    for folder in volumes.values():
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("patients", "others"):
        (volumes["datasets"] / name).mkdir()
        (volumes["datasets"] / name / f"{name}.csv").write_text("1,2,3")
    (tmp_path / "cluster").mkdir()
    double = ClusterDouble(tmp_path / "cluster", volumes)
    double.start()
    yield double
    double.stop()


@pytest.fixture
def start(cluster: ClusterDouble, start_agent: Start, tmp_path: Path) -> Start:
    """Starts an agent whose home and data lie on the cluster's volumes."""
    datasets = tmp_path / "datasets.json"
    where = cluster.volumes["datasets"]
    datasets.write_text(json.dumps({name: str(where / name) for name in ("patients", "others")}))
    template = tmp_path / "pod.yaml"
    template.write_text(yaml.safe_dump(pod_template(cluster)))

    def begin(*options: str) -> AgentProcess:
        return start_agent(
            *("--executor", "kubernetes", "--pod-template", str(template)),
            *("--cluster-access", str(cluster.access), "--cpu", "2", "--memory-mb", "1500"),
            *("--datasets", str(datasets), *options),
            home="volumes/home/site",
            env={**cluster.environment, "SECRET_OF_THE_AGENT": "x"},
        )

    return begin


def pod_template(cluster: ClusterDouble) -> dict:
    mounts = {
        "home": str(cluster.volumes["home"]),
        "datasets": str(cluster.volumes["datasets"]),
        "entries": str(cluster.volumes["entries"]),
        "tmp": "/tmp",
    }
    return {
        "metadata": {"labels": {"app.kubernetes.io/component": "training"}},
        "spec": {
            "nodeSelector": {"pool": "training"},
            "securityContext": {"runAsUser": 10001, "fsGroup": 10001},
            "containers": [
                {
                    "name": "training",
                    "image": "catchment/site:0.1.0",
                    "resources": {"limits": {"ephemeral-storage": "4Gi"}},
                    "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
                }
            ],
            "volumes": [
                {"name": "home", "persistentVolumeClaim": {"claimName": "agent-home"}},
                {"name": "datasets", "persistentVolumeClaim": {"claimName": "datasets"}},
                {"name": "entries", "configMap": {"name": "entries"}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            ],
        },
    }


def test_a_training_runs_in_a_pod_and_its_update_comes_back(
    exchange: ExchangeDouble, start: Start, cluster: ClusterDouble, add_entry, order
) -> None:
    add_entry("e", TRAIN, params={"--lr": 0.1})
    start()
    done = exchange.result(exchange.publish(order()).work_id, 40)
    assert (done.status, done.reason) == ("done", "")
    assert done.metrics["argv"] == ["--lr", "0.1"]
    assert "trained" in done.log_tail
    assert done.update is not None
    assert load(bytes(exchange.uploads["work-1"]))["w"].tolist() == np.ones((3, 2)).tolist()
    (job,) = cluster.made
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"pool": "training"}
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "1300M", "ephemeral-storage": "4Gi"}
    cluster.until_gone(job["metadata"]["name"], 10)


def test_a_pod_sees_its_task_and_its_data_and_nothing_else(
    exchange: ExchangeDouble, start: Start, add_entry, order
) -> None:
    add_entry("e", TRAIN + LOOK)
    start()
    done = exchange.result(exchange.publish(order(datasets=("patients",))).work_id, 40)
    assert (done.status, done.reason) == ("done", "")
    seen = json.loads(done.log_tail.strip().splitlines()[-1])
    assert seen["data"] == ["patients.csv"]
    assert (seen["work"], seen["home"]) == (["pod", "task"], ["work"])
    assert "others" not in seen["beside"]
    assert seen["write weights"] == seen["write data"] == "OSError"
    assert seen["environment"] == []


def test_a_stopped_job_takes_its_pod_along(
    exchange: ExchangeDouble, start: Start, cluster: ClusterDouble, add_entry, order
) -> None:
    add_entry("e", SLEEP)
    start()
    work = exchange.publish(order())
    exchange.until(lambda: cluster.jobs, 30)
    (name,) = cluster.jobs
    exchange.cancel(work.work_id)
    cluster.until_gone(name, 15)
    assert work.work_id not in exchange.results


def test_an_agent_that_is_killed_leaves_nothing_that_the_next_one_does_not_end(
    exchange: ExchangeDouble, start: Start, cluster: ClusterDouble, add_entry, order
) -> None:
    add_entry("e", SLEEP)
    first = start()
    exchange.publish(order())
    exchange.until(lambda: cluster.jobs, 30)
    (name,) = cluster.jobs
    first.kill()
    add_entry("e", TRAIN)
    start()
    cluster.until_gone(name, 20)
    assert exchange.result("work-1", 40).status == "done"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no node", "Unschedulable: 0/3 nodes are available"),
        ("no image", "ErrImagePull: manifest unknown"),
        ("out of memory", "MB allowed and was killed"),
        ("evicted", "Evicted: The node was low on resource"),
    ],
)
def test_what_the_cluster_does_to_a_pod_is_the_reason(
    exchange: ExchangeDouble, start: Start, cluster: ClusterDouble, add_entry, order, fault: str, words: str
) -> None:
    add_entry("e", TRAIN)
    cluster.fault = fault
    start()
    done = exchange.result(exchange.publish(order(timeout_s=4.0)).work_id, 40)
    assert done.status == "failed"
    assert words in done.reason


def test_a_script_that_fails_or_hangs_says_so_as_ever(
    exchange: ExchangeDouble, start: Start, add_entry, order
) -> None:
    add_entry("broken", "raise SystemExit('the disk is on fire')")
    add_entry("hangs", SLEEP)
    start()
    broken = exchange.result(exchange.publish(order("broken")).work_id, 40)
    assert broken.reason == "main.py ended with exit code 1: the disk is on fire"
    hung = exchange.result(exchange.publish(order("hangs", timeout_s=5.0)).work_id, 40)
    assert "hung past its time" in hung.reason


def test_a_cluster_that_refuses_jobs_ends_the_agent_with_its_words(
    start: Start, cluster: ClusterDouble
) -> None:
    cluster.refuse = (403, 'jobs.batch is forbidden: User "agent" cannot list resource "jobs"')
    agent = start()
    assert agent.process.wait(20) == 1
    assert "cannot list resource" in agent.words()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"containers": []}, "one container"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_at_the_start(
    start: Start, cluster: ClusterDouble, tmp_path: Path, change: dict, words: str
) -> None:
    template = pod_template(cluster)
    template["spec"] |= change
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(template))
    agent = start()
    assert agent.process.wait(20) == 2
    assert words in agent.words()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--executor", "kubernetes"), "--executor kubernetes and --pod-template FILE need each other"),
        (("--executor", "kubernetes", "--pod-template", "{pod}"), "needs --cpu and --memory-mb"),
        (
            ("--executor", "kubernetes", "--pod-template", "{pod}", "--cpu", "1", "--memory-mb", "500"),
            "works in a pod whose service account's token is mounted",
        ),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(
    start_agent: Start, cluster: ClusterDouble, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod_template(cluster)))
    given = [option.format(pod=tmp_path / "pod.yaml") for option in options]
    agent = start_agent(*given, home="volumes/home/site")
    assert agent.process.wait(20) == 2
    assert words in " ".join(agent.words().split())


def test_sent_scripts_wait_for_a_network_policy_where_isolation_is_required(
    exchange: ExchangeDouble, start: Start, add_entry, order
) -> None:
    add_entry("e", TRAIN)
    start("--isolation", "require", "--isolate-entries")
    done = exchange.result(exchange.publish(order()).work_id, 40)
    assert "network policies" in done.reason
