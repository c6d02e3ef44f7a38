"""The routing table as the store's rows make it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catchment.serving.gateway.table import Table, read, revision_of
from catchment.store import Store
from tests.api.serving_rows import add_endpoint, add_serving, add_workload, drop_endpoints, route


def table(store: Store) -> Table:
    return store.db.read(read)


def test_it_holds_weights_graphs_and_servers_that_are_ready(store: Store) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 80, "m-default-r2": 20}, rolling=2)
    add_workload(store, uid, "m-default-r1", graph="classifier")
    add_workload(store, uid, "m-default-r2", revision=2, graph="net")
    add_endpoint(store, uid, "m-default-r1", 1001, replica=1)
    add_endpoint(store, uid, "m-default-r1", 1000, replica=0)
    add_endpoint(store, uid, "m-default-r2", 1002, state="starting", message="loads")
    add_serving(store, "m", {}, namespace="other")
    found = table(store).find("default", "m")
    assert found is not None
    assert (found.uid, found.rolling, found.models) == (uid, True, {"m", "classifier", "net"})
    first, second = found.targets
    assert (first.key, first.weight, first.revision, first.predictor) == ("m-default-r1", 80, 1, "default")
    assert [(each.replica, each.host, each.port) for each in first.places] == [
        (0, "127.0.0.1", 1000),
        (1, "127.0.0.1", 1001),
    ]
    assert (second.revision, second.places) == (2, ())
    assert found.open == [first]
    assert "m-default-r2: starting loads" in found.why
    other = table(store).find("other", "m")
    assert other is not None
    assert other.targets == ()
    assert table(store).find("default", "nobody") is None


def test_it_follows_changes(store: Store) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", 1000)
    add_endpoint(store, uid, "m-default-r2", 1001)
    route(store, uid, {"m-default-r2": 100})
    drop_endpoints(store, uid, "m-default-r1")
    found = table(store).find("default", "m")
    assert found is not None
    assert [(each.key, each.revision) for each in found.open] == [("m-default-r2", 2)]
    assert len(list(table(store).places())) == 1


def test_a_request_that_names_a_version_goes_to_that_revision_alone(store: Store) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 80, "m-default-r2": 20})
    for revision in (1, 2, 3):
        add_endpoint(store, uid, f"m-default-r{revision}", 1000 + revision)
    found = table(store).find("default", "m")
    assert found is not None
    assert [each.key for each in found.of_version("2").open] == ["m-default-r2"]
    assert found.of_version("3") is found  # takes no traffic: the servers that do will say they have it not


def test_an_address_of_another_form_is_left_out(store: Store) -> None:
    uid = add_serving(store, "m", {"a": 100})
    for replica, port in enumerate(("1/path", "x", "99999999")):
        add_endpoint(store, uid, "a", port, replica=replica)  # type: ignore[arg-type]
    found = table(store).find("default", "m")
    assert found is not None
    assert found.open == []


@given(st.integers(1, 10**6))
def test_a_revision_is_read_off_a_key(revision: int) -> None:
    assert revision_of(f"m-default-r{revision}") == revision
    assert revision_of("m-default-0badcafe") == 0
