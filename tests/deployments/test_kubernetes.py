"""Manifests: valid by the official schemas, restricted, bounded, watched, and without a secret."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from catchment.site.launch_file import Launch
from catchment.site.limits import Limits
from catchment.site.pods.template import PodTemplate, Seen
from tests.conftest import ROOT
from tests.deployments.conftest import SITE
from tests.deployments.kustomizing import Object, containers, key, pod, render, running
from tests.deployments.restrictions import check_bounded, check_restricted
from tests.deployments.schemas import CUSTOM

KUBERNETES_VERSION = "1.33"
LISTENS_NOWHERE = {"prefect-services", "runner", "agent"}
"""Seen elsewhere: services and runners in Prefect's UI, agents by `catchment sites`. They end when they can
go on no more."""
NAMES_OF_SECRETS = {"CATCHMENT_SERVING_REGISTRY_SECRET"}
SECRET_WORDS = re.compile(r"(password|secret|token|auth_string|access_key)", re.IGNORECASE)


def test_kubectl_renders_the_same(folder: Path, objects: list[Object]) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed on this machine; the loader of the tests stands alone")
    said = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True, timeout=60
    )
    theirs = yaml.safe_load_all(said.stdout)
    assert sorted(map(words, theirs)) == sorted(map(words, objects))


def words(found: Object) -> str:
    """An object as text, for comparison."""
    return json.dumps(found, sort_keys=True)


def test_each_object_is_valid_and_there_once(objects: list[Object]) -> None:
    counted = Counter(map(key, objects))
    assert max(counted.values()) == 1, counted.most_common(1)
    for found in objects:
        if found["kind"] in CUSTOM:
            jsonschema.validate(found, CUSTOM[found["kind"]])
        else:
            kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)


def test_every_namespace_admits_restricted_pods_only(objects: list[Object]) -> None:
    restricted = {
        found["metadata"]["name"]
        for found in objects
        if found["kind"] == "Namespace"
        and found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    }
    assert {found["metadata"]["namespace"] for found in running(objects)} <= restricted


def test_every_pod_is_restricted_and_bounded(objects: list[Object]) -> None:
    for found in running(objects):
        check_restricted(found)
        check_bounded(found)


def test_every_server_is_probed(objects: list[Object]) -> None:
    for found in running(objects):
        if found["kind"] == "Job":
            continue
        for container in (pod(found) or {})["containers"]:
            if container["name"] in LISTENS_NOWHERE:
                assert "ports" not in container, f"{container['name']} listens after all"
            else:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), container[
                    "name"
                ]


def test_secrets_are_referred_to_and_never_held(objects: list[Object]) -> None:
    assert not [key(found) for found in objects if found["kind"] == "Secret"]
    for found in objects:
        if found["kind"] == "ConfigMap":
            held = [
                name for name in found["data"] if SECRET_WORDS.search(name) and name not in NAMES_OF_SECRETS
            ]
            assert not held, f"{held} of ConfigMap {key(found)}"
        for container in containers(found):
            for variable in container.get("env", []):
                assert not SECRET_WORDS.search(variable["name"]) or "valueFrom" in variable, variable["name"]


def test_images_are_named_with_registry_and_version(objects: list[Object]) -> None:
    for found in running(objects):
        for container in containers(found):
            image = container["image"]
            assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+(:\d+)?/[a-z0-9/-]+:[0-9][\w.-]*", image), image


def test_what_pods_mount_and_read_is_there_or_is_a_secret_of_the_documentation(objects: list[Object]) -> None:
    documented = {
        path.name.partition(".")[0] for path in (ROOT / "deployments").rglob("secrets/*.example.env")
    }
    documented |= {"catchment-tls", "api-tls", "site-token"}
    there = {key(found) for found in objects}
    for found in running(objects):
        space, spec = found["metadata"]["namespace"], pod(found) or {}
        assert ("ServiceAccount", space, spec["serviceAccountName"]) in there, key(found)
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", space, volume["configMap"]["name"]) in there, volume
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", space, volume["persistentVolumeClaim"]["claimName"]) in there
            if "secret" in volume:
                assert volume["secret"]["secretName"] in documented, volume
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in found["spec"].get("volumeClaimTemplates", [])}
        for container in containers(found):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, key(found)
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    assert ("ConfigMap", space, source["configMapRef"]["name"]) in there, source
                else:
                    assert source["secretRef"]["name"] in documented, source
            for variable in container.get("env", []):
                if "valueFrom" in variable and "secretKeyRef" in variable["valueFrom"]:
                    assert variable["valueFrom"]["secretKeyRef"]["name"] in documented, variable


def test_only_api_and_runner_may_ask_kubernetes_and_only_for_what_serving_makes(
    objects: list[Object],
) -> None:
    roles = [found for found in objects if found["kind"] in ("Role", "ClusterRole")]
    assert not [key(found) for found in roles if found["kind"] == "ClusterRole"]
    for found in roles:
        for rule in found["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"]), rule
            assert not {"roles", "rolebindings", "pods/exec"} & set(rule["resources"]), rule
            if "secrets" in rule["resources"]:
                assert found["metadata"]["namespace"] == "catchment-serving", "where only tokens of steps are"
                assert set(rule["verbs"]) == {"get", "create", "patch"}, rule
    bound = {
        (subject["namespace"], subject["name"])
        for found in objects
        if found["kind"] == "RoleBinding"
        for subject in found["subjects"]
    }
    for found in running(objects):
        spec = pod(found) or {}
        account = (found["metadata"]["namespace"], spec["serviceAccountName"])
        assert spec["automountServiceAccountToken"] is (account in bound), key(found)


def test_the_loader_of_the_tests_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: x-\n")
    with pytest.raises(AssertionError, match="namePrefix"):
        render(tmp_path)


def test_the_template_of_trainings_makes_restricted_jobs() -> None:
    """With what the agent adds, of the volumes and accounts that its own manifests have."""
    file = SITE / "jobs" / "pod.yaml"
    template = PodTemplate.read(file, Path("/var/lib/catchment/site"))
    launch = Launch(
        argv=("python", "train.py"),
        script="",
        cwd="/",
        env={"CUDA_VISIBLE_DEVICES": "0,1"},
        rank_env=({}, {}),
        timeout_s=60,
        limits=Limits(memory_mb=2000, data_mb=0, file_mb=1, threads=2),
    )
    task = Path("/var/lib/catchment/site/work/one/task")
    seen = Seen((task,), (task / "task.json",), (Path("/data/digits"),))
    job = template.job("one", {"catchment.io/site": "hospital-a"}, launch, seen, ["python"])
    kubernetes_validate.validate(job, KUBERNETES_VERSION, strict=True)
    check_restricted(job)
    check_bounded(job)
    limits = containers(job)[0]["resources"]["limits"]
    assert (limits["cpu"], limits["memory"], limits["nvidia.com/gpu"]) == ("4", "4300M", "2")
    there = {key(found) for found in render(SITE / "jobs")}
    spec = pod(job) or {}
    assert ("ServiceAccount", "catchment-site", spec["serviceAccountName"]) in there
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert (
                "PersistentVolumeClaim",
                "catchment-site",
                volume["persistentVolumeClaim"]["claimName"],
            ) in there
