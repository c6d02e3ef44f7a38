"""Catchment's client finds at a real API server what it finds at the double."""

from __future__ import annotations

import pytest

from catchment.errors import ClusterRefused, InvalidField, NotFound
from catchment.kubernetes import client, kinds
from catchment.kubernetes.client import Cluster
from catchment.settings import Settings
from tests.library.kubernetes import test_client as at_the_double
from tests.library.kubernetes import test_pods as pods_at_the_double
from tests.real_kubernetes.cluster import RealCluster

HERE = at_the_double.HERE
config_map = at_the_double.config_map

for _name in (
    "test_what_is_applied_again_changes_and_what_it_no_longer_names_goes",
    "test_fields_of_others_are_left_alone_unless_they_are_taken",
    "test_what_is_there_cannot_be_created",
    "test_a_wrong_manifest_is_refused_in_the_clusters_words",
    "test_what_is_not_there_is_not_found",
    "test_what_is_deleted_is_the_one_that_was_meant",
    "test_a_token_that_is_not_known_is_refused_and_not_shown",
    "test_a_watch_tells_what_changes_and_ends_at_its_deadline",
    "test_a_watch_from_too_long_ago_ends",
    "test_logs_have_times_and_a_container_that_has_not_begun_has_none",
):
    globals()[_name] = getattr(at_the_double, _name)
test_what_a_cluster_tells_of_a_pod_is_understood = (
    pods_at_the_double.test_what_a_cluster_tells_of_a_pod_is_understood
)


def test_a_kind_that_is_not_installed_is_named(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match=r"servingruntimes\.serving\.kserve\.io.*is it installed"):
        cluster.list(kinds.SERVING_RUNTIME, HERE)


def test_long_lists_come_in_pages_and_items_know_their_kind(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 3)
    for number in range(7):
        cluster.create(config_map(f"map-{number}"), HERE)
    found = cluster.list(kinds.CONFIG_MAP, HERE, "a=b")
    assert [each["metadata"]["name"] for each in found] == [f"map-{number}" for number in range(7)]
    assert {each["kind"] for each in found} == {"ConfigMap"}


def test_a_kubeconfig_names_the_cluster(api: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = api.kubeconfig(tmp_path_factory.mktemp("kube") / "kubeconfig")
    with Cluster(Settings(kubeconfig=path)) as cluster:
        assert cluster.list(kinds.POD, HERE) == []


def test_a_value_of_the_wrong_type_is_refused(cluster: Cluster) -> None:
    wrong = {**config_map(), "data": {"x": {"not": "text"}}}
    for call in (cluster.create, cluster.apply):
        with pytest.raises(InvalidField, match="data"):
            call(wrong, HERE)


def test_without_a_right_the_verb_and_kind_are_named(api: RealCluster) -> None:
    api.make("serviceaccounts", HERE, {"metadata": {"name": "nobody"}})
    configuration = api.client_configuration(api.token_of(HERE, "nobody"))
    with Cluster(Settings(), configuration) as nobody:
        with pytest.raises(ClusterRefused, match="the right to list pods in namespace 'default'"):
            nobody.list(kinds.POD, HERE)
        with pytest.raises(ClusterRefused, match="the right to patch configmaps in namespace 'default'"):
            nobody.apply(config_map(), HERE)
