"""The client against a server with state: what it asks, what it makes of answers and of none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from catchment.errors import (
    AlreadyExists,
    CatchmentError,
    ClusterRefused,
    InvalidField,
    NotFound,
    SetupError,
    Unreachable,
    WrongState,
)
from catchment.kubernetes import client, kinds
from catchment.kubernetes.client import Cluster
from catchment.settings import Settings
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble

HERE = "default"


def config_map(name: str = "kept", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"a": "b"}},
        "data": data,
    }


def pod(name: str = "one") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "x"}]}}


def test_what_is_applied_again_changes_and_what_it_no_longer_names_goes(cluster: Cluster) -> None:
    cluster.apply(config_map(x="1", y="2"), HERE)
    assert cluster.apply(config_map(x="3"), HERE)["data"] == {"x": "3"}
    assert cluster.get(kinds.CONFIG_MAP, HERE, "kept")["data"] == {"x": "3"}
    assert cluster.delete(kinds.CONFIG_MAP, HERE, "kept")
    assert not cluster.delete(kinds.CONFIG_MAP, HERE, "kept")
    assert cluster.find(kinds.CONFIG_MAP, HERE, "kept") is None


def test_fields_of_others_are_left_alone_unless_they_are_taken(
    api: KubernetesDouble, cluster: Cluster
) -> None:
    cluster.apply(config_map(x="1"), HERE)
    api.edit("configmaps", "kept", lambda live: live | {"data": {"x": "2", "theirs": "1"}})
    with pytest.raises(WrongState, match=r"somebody-else.*\.data\.x"):
        cluster.apply(config_map(x="1"), HERE)
    assert cluster.apply(config_map(x="1"), HERE, force=True)["data"] == {"x": "1", "theirs": "1"}


def test_what_is_there_cannot_be_created(cluster: Cluster) -> None:
    cluster.create(config_map(), HERE)
    with pytest.raises(AlreadyExists, match="kept"):
        cluster.create(config_map(), HERE)


def test_a_wrong_manifest_is_refused_in_the_clusters_words(cluster: Cluster) -> None:
    with pytest.raises(InvalidField, match=r"metadata\.name") as refused:
        cluster.create(config_map("Not A Name"), HERE)
    assert refused.value.field == "metadata.name"
    with pytest.raises(InvalidField, match="dta") as unknown:
        cluster.apply({**config_map(), "dta": {}}, HERE)
    assert unknown.value.field == "dta"
    with pytest.raises(InvalidField) as mistyped:
        cluster.apply({**config_map(), "data": {"x": ["no", "text"]}}, HERE)
    assert mistyped.value.field == "data.x"


def test_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match='pods "none" not found'):
        cluster.get(kinds.POD, HERE, "none")
    with pytest.raises(NotFound, match="nowhere"):
        cluster.apply(config_map(), "nowhere")


def test_a_kind_that_is_not_installed_is_named() -> None:
    with (
        KubernetesDouble(without=("serving.kserve.io",)) as api,
        Cluster(Settings(), api.client_configuration()) as cluster,
        pytest.raises(NotFound, match="is it installed"),
    ):
        cluster.list(kinds.INFERENCE_SERVICE, HERE)


def test_a_missing_right_names_verb_and_kind(api: KubernetesDouble, cluster: Cluster) -> None:
    api.forbid("patch", "configmaps")
    with pytest.raises(
        ClusterRefused, match="the right to patch configmaps in namespace 'default'"
    ) as refused:
        cluster.apply(config_map(), HERE)
    assert (refused.value.verb, refused.value.kind) == ("patch", "configmaps")


def test_what_is_deleted_is_the_one_that_was_meant(cluster: Cluster) -> None:
    first = cluster.create(config_map(), HERE)["metadata"]
    assert cluster.delete(kinds.CONFIG_MAP, HERE, first["name"], uid=first["uid"])
    second = cluster.create(config_map(), HERE)["metadata"]
    assert not cluster.delete(kinds.CONFIG_MAP, HERE, first["name"], uid=first["uid"])
    cluster.apply({**config_map(), "data": {"x": "2"}}, HERE)
    with pytest.raises(WrongState, match="precondition"):
        cluster.delete(
            kinds.CONFIG_MAP, HERE, second["name"], uid=second["uid"], version=second["resourceVersion"]
        )
    assert cluster.get(kinds.CONFIG_MAP, HERE, second["name"])["metadata"]["uid"] == second["uid"]
    assert cluster.delete(kinds.CONFIG_MAP, HERE, second["name"], uid=second["uid"])


def test_a_token_that_is_not_known_is_refused_and_not_shown(api: KubernetesDouble) -> None:
    configuration = api.client_configuration(token="no-such-token")
    with Cluster(Settings(), configuration) as cluster, pytest.raises(ClusterRefused) as refused:
        cluster.list(kinds.POD, HERE)
    assert "no-such-token" not in str(refused.value)


@pytest.mark.parametrize("code", [429, 500, 503, 504])
def test_a_server_that_cannot_now_is_unreachable(api: KubernetesDouble, cluster: Cluster, code: int) -> None:
    api.fail("list", "pods", code)
    with pytest.raises(Unreachable, match=str(code)):
        cluster.list(kinds.POD, HERE)
    assert cluster.list(kinds.POD, HERE) == []


def test_a_cut_connection_is_unreachable_and_is_not_asked_again_behind_the_callers_back(
    api: KubernetesDouble, cluster: Cluster
) -> None:
    api.cut("get", "pods")
    with pytest.raises(Unreachable, match="does not answer"):
        cluster.get(kinds.POD, HERE, "none")
    assert len([each for each in api.asked if each.verb == "get"]) == 1


def test_a_server_that_hangs_costs_the_deadline_and_no_more(api: KubernetesDouble, cluster: Cluster) -> None:
    api.slow(30, "list", "pods")
    began = time.monotonic()
    with pytest.raises(Unreachable, match="does not answer"):
        cluster.list(kinds.POD, HERE, deadline_s=0.5)
    assert time.monotonic() - began < 5


def test_nobody_listening_is_unreachable(api: KubernetesDouble) -> None:
    configuration = api.client_configuration()
    configuration.host = "http://127.0.0.1:9"
    configuration.retries = False
    with Cluster(Settings(), configuration) as cluster, pytest.raises(Unreachable):
        cluster.list(kinds.POD, HERE)


def test_long_lists_come_in_pages_and_items_know_their_kind(
    api: KubernetesDouble, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 3)
    for number in range(7):
        api.create("configmaps", {"metadata": {"name": f"map-{number}", "labels": {"a": "b"}}})
    found = cluster.list(kinds.CONFIG_MAP, HERE, "a=b")
    assert [each["metadata"]["name"] for each in found] == [f"map-{number}" for number in range(7)]
    assert found[-1]["kind"] == "ConfigMap"
    assert len([each for each in api.asked if each.verb == "list"]) == 3


def test_a_watch_tells_what_changes_and_ends_at_its_deadline(api: KubernetesDouble, cluster: Cluster) -> None:
    _, version = cluster.list_with_version(kinds.CONFIG_MAP, HERE)
    api.create("configmaps", {"metadata": {"name": "new", "labels": {"a": "b"}}})
    api.create("configmaps", {"metadata": {"name": "other"}})
    began = time.monotonic()
    seen = [
        (each.kind, each.found["metadata"]["name"])
        for each in cluster.watch(kinds.CONFIG_MAP, HERE, "a=b", since=version, deadline_s=1)
    ]
    assert seen == [("ADDED", "new")]
    assert time.monotonic() - began < 4


def test_a_watch_from_too_long_ago_ends(api: KubernetesDouble, cluster: Cluster) -> None:
    _, version = cluster.list_with_version(kinds.CONFIG_MAP, HERE)
    api.expire_watches()
    assert list(cluster.watch(kinds.CONFIG_MAP, HERE, since=version, deadline_s=10)) == []


def test_logs_have_times_and_a_container_that_has_not_begun_has_none(
    api: KubernetesDouble, cluster: Cluster
) -> None:
    api.script(outcomes.runs("one\ntwo\nthree"))
    api.create("pods", pod())
    api.wait_for("pods", lambda pods: pods[0].get("status", {}).get("phase") == "Running")
    lines = cluster.log(HERE, "one", "main", tail=2)
    assert [text for _, text in lines] == ["two", "three"]
    assert all(at.startswith("20") and at.endswith("Z") for at, _ in lines)
    assert cluster.log(HERE, "one", "main", previous=True) == []
    api.script(outcomes.creating())
    api.create("pods", pod("two"))
    api.wait_for("pods", lambda pods: "status" in pods[1])
    assert cluster.log(HERE, "two", "main") == []
    with pytest.raises(NotFound, match="other"):
        cluster.log(HERE, "one", "other")


def test_a_kubeconfig_and_its_context_name_the_cluster(api: KubernetesDouble, tmp_path: Path) -> None:
    path = api.kubeconfig(tmp_path / "kubeconfig", context="ours")
    with Cluster(Settings(kubeconfig=path, kubernetes_context="ours")) as cluster:
        assert cluster.list(kinds.POD, HERE) == []
    with pytest.raises(SetupError, match=r"theirs.*CATCHMENT_KUBERNETES_CONTEXT"):
        Cluster(Settings(kubeconfig=path, kubernetes_context="theirs"))
    with pytest.raises(SetupError, match="CATCHMENT_KUBECONFIG"):
        Cluster(Settings(kubeconfig=tmp_path / "none"))


def test_every_error_is_one_of_catchments(api: KubernetesDouble, cluster: Cluster) -> None:
    for code in (400, 401, 403, 404, 405, 409, 410, 415, 422, 429, 500, 503, 504):
        api.fail("list", "pods", code)
        with pytest.raises(CatchmentError):
            cluster.list(kinds.POD, HERE)
