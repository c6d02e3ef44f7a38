"""What every pod of ours holds to, wherever its manifest comes from."""

from __future__ import annotations

from tests.deployments.kustomizing import Object, containers, pod


def check_restricted(found: Object) -> None:
    """It fits the Pod Security Standard "restricted", and besides cannot write its root file system."""
    spec = pod(found)
    name = found["metadata"].get("name", "pod")
    assert spec is not None, name
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True, name
    assert context["runAsUser"] > 0, name
    assert context["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost"), name
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
    assert all("hostPath" not in volume for volume in spec.get("volumes", [])), name
    for container in containers(found):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False, (name, container["name"])
        assert own["readOnlyRootFilesystem"] is True, (name, container["name"])
        assert own["capabilities"] == {"drop": ["ALL"]}, (name, container["name"])


def check_bounded(found: Object) -> None:
    """It says what it needs and what it may take, of disks, too."""
    name = found["metadata"].get("name", "pod")
    for container in containers(found):
        for part in ("requests", "limits"):
            named = set(container["resources"][part])
            assert named >= {"cpu", "memory", "ephemeral-storage"}, (name, container["name"], part)
    for volume in (pod(found) or {}).get("volumes", []):
        if "emptyDir" in volume:
            assert "sizeLimit" in volume["emptyDir"], (name, volume["name"])
