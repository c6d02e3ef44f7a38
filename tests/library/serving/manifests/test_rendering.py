"""What cannot be served is refused by field, before anything reaches a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from catchment.errors import InvalidField, SetupError
from catchment.serving.manifests import kserve, seldon
from catchment.serving.manifests.names import shortened, workload_labels
from catchment.serving.manifests.pods import asks_for_gpu, pod_spec
from catchment.serving.manifests.render import render
from catchment.serving.manifests.routes import http_route, weights_of
from catchment.serving.manifests.runtimes import RUNTIMES, Form, choose
from catchment.serving.workload import ServingKey
from tests.serving_workloads import SERVING, X, Y, model, settings, workload

FORMS: tuple[Form, ...] = ("kubernetes", "kserve", "seldon")


def spec(**fields: Any) -> dict[str, Any]:
    return pod_spec(workload(**fields), "kubernetes", settings())


@pytest.mark.parametrize(
    ("format_name", "runtime"),
    [
        ("ONNX", "onnxruntime"),
        ("SavedModel", "triton"),
        ("TorchScript", "triton"),
        ("GraphDef", "triton"),
        ("NetDef", "triton"),
        ("TensorRT", "triton"),
        ("SKLearn", "mlserver"),
        ("XGBoost", "mlserver"),
        ("MLflow", "mlserver"),
        ("MLlib", "mlserver"),
        ("PMML", "openscoring"),
    ],
)
def test_each_format_has_its_runtime(format_name: str, runtime: str) -> None:
    served = workload(model=model(format_name))
    assert runtime in RUNTIMES
    assert choose(served, "kubernetes").name == runtime
    elsewhere = "triton" if format_name == "ONNX" else runtime
    assert choose(served, "seldon").name == elsewhere


@pytest.mark.parametrize(
    ("format_name", "words"),
    [("H5", "convert it to SavedModel or ONNX"), ("Pickle", "served are ONNX"), ("LightGBM", "no runtime")],
)
@pytest.mark.parametrize("form", FORMS)
def test_formats_that_nothing_serves_are_refused_with_a_way_out(
    format_name: str, words: str, form: Form
) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        render([workload(model=model(format_name))], {}, form, settings())
    assert caught.value.field == "format"


@pytest.mark.parametrize(
    ("runtime", "words"),
    [("mlserver", "onnxruntime or triton does"), ("tensorflow-serving", "known are onnxruntime, triton")],
)
def test_a_runtime_that_does_not_serve_the_format_is_refused(runtime: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        render([workload(runtime=runtime)], {}, "kubernetes", settings())
    assert caught.value.field == "runtime"


@pytest.mark.parametrize("form", FORMS)
def test_tritons_models_need_a_signature_that_it_can_read(form: Form) -> None:
    without = workload(model=model("SavedModel", inputs=()))
    with pytest.raises(InvalidField) as caught:
        render([without], {}, form, settings())
    assert caught.value.field == "signature.inputs"
    wrong = workload(model=model("SavedModel", inputs=({**X, "dType": "complex64"},)))
    with pytest.raises(InvalidField, match="complex64"):
        render([wrong], {}, form, settings())


@pytest.mark.parametrize("form", FORMS)
def test_a_cluster_needs_a_registry(form: Form) -> None:
    with pytest.raises(SetupError, match="CATCHMENT_SERVING_REGISTRY"):
        render([workload()], {}, form, settings(serving_registry=""))


def test_pmml_needs_an_image() -> None:
    with pytest.raises(InvalidField, match="CATCHMENT_SERVING_OPENSCORING_IMAGE"):
        render([workload(model=model("PMML"))], {}, "kubernetes", settings())


@pytest.mark.parametrize(
    ("format_name", "runtime", "field"),
    [("PMML", "", "format"), ("MLlib", "", "format"), ("ONNX", "onnxruntime", "runtime")],
)
def test_kserve_refuses_what_its_runtimes_do_not_serve(format_name: str, runtime: str, field: str) -> None:
    with pytest.raises(InvalidField, match="kubernetes") as caught:
        render([workload(model=model(format_name), runtime=runtime)], {}, "kserve", settings())
    assert caught.value.field == field


def test_kserve_takes_a_runtime_of_the_cluster() -> None:
    made = kserve.inference_service(workload(model=model("MLlib"), runtime="our-mllib"), settings())
    served = made["spec"]["predictor"]["model"]
    assert (served["modelFormat"]["name"], served["runtime"]) == ("mllib", "our-mllib")
    assert "layout=files" in served["storageUri"]


@pytest.mark.parametrize(
    ("pod", "field"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"serviceAccountName": "admin"}, "serviceAccountName"),
        ({"nodeName": "control-plane"}, "nodeName"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "volumes[0].hostPath"),
        ({"volumes": [{"name": "v", "projected": {"sources": []}}]}, "volumes[0].projected"),
        ({"volumes": [{"name": "V v", "emptyDir": {}}]}, "volumes[0].name"),
        ({"securityContext": {"runAsUser": 0}}, "securityContext.runAsUser"),
        ({"securityContext": {"runAsNonRoot": False}}, "securityContext.runAsNonRoot"),
        ({"securityContext": {"sysctls": []}}, "securityContext.sysctls"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "securityContext.seccompProfile"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_pods_that_reach_beyond_themselves_are_refused(pod: dict[str, Any], field: str, form: Form) -> None:
    given = {"containers": [{"name": "classifier"}], **pod}
    with pytest.raises(InvalidField) as caught:
        render([workload(pod=given)], {}, form, settings())
    assert caught.value.field == f"componentSpecs[0].spec.{field}"


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"securityContext": {"privileged": True}}, "securityContext.privileged"),
        ({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}, "securityContext.capabilities"),
        ({"securityContext": {"allowPrivilegeEscalation": True}}, "securityContext.allowPrivilegeEscalation"),
        ({"ports": [{"containerPort": 1, "hostPort": 1}]}, "ports[0]"),
        ({"volumeDevices": []}, "volumeDevices"),
        ({"lifecycle": {}}, "lifecycle"),
        ({"env": [{"name": "ORMB_PASSWORD", "value": "s3cret"}]}, "env[0]"),
        ({"volumeMounts": [{"name": "a"}, {"name": "b"}]}, "volumeMounts"),
    ],
)
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_containers_that_reach_beyond_themselves_are_refused(
    container: dict[str, Any], field: str, kind: str
) -> None:
    pod = {"containers": [{"name": "classifier"}], kind: [{"name": "classifier", **container}]}
    with pytest.raises(InvalidField) as caught:
        render([workload(pod=pod)], {}, "kubernetes", settings())
    assert caught.value.field == f"componentSpecs[0].spec.{kind}[0].{field}"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("containers", [[], [{"name": "a"}, {"name": "b"}], "x"])
def test_a_pod_has_one_container(containers: Any) -> None:
    with pytest.raises(InvalidField, match="exactly one"):
        render([workload(pod={"containers": containers, "nodeSelector": {}})], {}, "seldon", settings())


def test_words_of_restricted_in_the_users_pod_are_fine() -> None:
    words = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 5}
    own = {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}
    pod = {"containers": [{"securityContext": own}], "securityContext": words}
    assert spec(pod=pod)["securityContext"]["runAsUser"] == 5


@pytest.mark.parametrize("name", ["Bad_Name", "", "-a", "a" * 64])
def test_a_graph_is_named_as_a_container_can_be(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        render([workload(graph=name)], {}, "kubernetes", settings())
    assert caught.value.field == "graph.name"


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ({}, False),
        ({"nvidia.com/gpu": "1"}, True),
        ({"nvidia.com/gpu": 0}, False),
        ({"nvidia.com/gpu": "0"}, False),
        ({"gpu.intel.com/i915": "2"}, True),
        ({"cpu": "4"}, False),
        ({"nvidia.com/gpu": "10"}, True),
    ],
)
def test_gpus_are_seen_only_by_whom_a_limit_gives_them(limits: dict[str, Any], asked: bool) -> None:
    assert asks_for_gpu({"limits": limits, "requests": {"nvidia.com/gpu": "1"}}) is asked
    names = {each["name"] for each in spec(resources={"limits": limits})["containers"][0]["env"]}
    assert ("NVIDIA_VISIBLE_DEVICES" in names) is not asked


def test_the_initializer_takes_no_gpu() -> None:
    given = {"limits": {"nvidia.com/gpu": "1", "memory": "4Gi"}}
    made = spec(resources=given)
    assert made["containers"][0]["resources"] == given
    assert made["initContainers"][0]["resources"] == {"limits": {"memory": "4Gi"}}


def test_variables_of_the_workload_win_over_the_pods_and_those_over_ours() -> None:
    theirs = [{"name": "FORMAT", "value": "theirs"}, {"name": "A", "value": "theirs"}]
    made = spec(pod={"containers": [{"env": theirs}]}, env={"A": "workload"})["containers"][0]["env"]
    assert {"name": "FORMAT", "value": "theirs"} in made
    assert {"name": "A", "value": "workload"} in made
    assert len(made) == len({each["name"] for each in made})


def test_an_initializer_of_the_users_own_takes_the_place_of_ours() -> None:
    theirs = {"name": "classifier-model-initializer", "image": "example.org/init:1"}
    pod = {"containers": [{"name": "classifier"}], "initContainers": [theirs]}
    assert [each["image"] for each in spec(pod=pod)["initContainers"]] == ["example.org/init:1"]
    pod["initContainers"] = [{**theirs, "name": "warm-up"}]
    assert [each["name"] for each in spec(pod=pod)["initContainers"]] == [
        "classifier-model-initializer",
        "warm-up",
    ]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"digits-main-r1": 99}, "add up to 99"),
        ({"digits-main-r1": 101, "digits-main-r2": -1}, "no percentage"),
        ({"other": 100}, "none of the serving's"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_percent_of_what_is_there(weights: dict[str, int], words: str, form: Form) -> None:
    with pytest.raises(InvalidField, match=words):
        render([workload(1), workload(2)], weights, form, settings())


def test_a_routes_weights_are_read_as_they_were_written() -> None:
    weights = {"a": 0, "b": 70, "c": 30}
    route = http_route(SERVING, weights, settings(), port=80, service=kserve.service_name)
    assert weights_of(route, lambda name: name.removesuffix("-predictor")) == weights
    assert weights_of({}) == {}


@pytest.mark.parametrize("gateways", ["public", "a/b/c/d", "a/", "A/b"])
def test_gateways_are_named_with_their_namespace(gateways: str) -> None:
    with pytest.raises(InvalidField) as caught:
        http_route(SERVING, {"a": 100}, settings(serving_gateways=gateways), port=1)
    assert caught.value.field == "CATCHMENT_SERVING_GATEWAYS"


def test_workloads_of_two_servings_are_not_rendered_together() -> None:
    other = workload(1, serving=ServingKey("default", "other", "x"))
    with pytest.raises(InvalidField, match="one serving"):
        render([workload(1), other], {}, "kubernetes", settings())
    with pytest.raises(InvalidField, match="one at least"):
        render([], {}, "kubernetes", settings())
    with pytest.raises(InvalidField, match="helm"):
        render([other], {}, "helm", settings())  # type: ignore[arg-type]


def test_serverless_kserve_splits_between_two() -> None:
    three = [workload(number) for number in (1, 2, 3)]
    serverless = settings(kserve_mode="serverless")
    with pytest.raises(InvalidField, match="two revisions"):
        render(three, {three[0].key: 50, three[1].key: 30, three[2].key: 20}, "kserve", serverless)
    whole = render(three, {three[2].key: 100}, "kserve", serverless)[0]
    assert "canaryTrafficPercent" not in whole["spec"]["predictor"]


def test_seldons_predictors_are_told_apart_by_revision() -> None:
    made = seldon.seldon_deployment([workload(1), workload(2)], {}, settings())
    found = [(each["name"], each["traffic"]) for each in made["spec"]["predictors"]]
    assert found == [("main-r1", 100), ("main-r2", 0)]
    with pytest.raises(InvalidField, match="same name"):
        seldon.seldon_deployment([workload(1), replace(workload(1), graph="b")], {}, settings())


def test_long_names_stay_labels() -> None:
    long = ServingKey("default", "s" * 60, "u")
    labels = workload_labels(workload(serving=long, graph="g" * 60))
    assert all(len(value) <= 63 for value in labels.values())
    assert shortened("a" * 63) == "a" * 63
    assert shortened("a" * 64) != shortened("a" * 65)


def test_the_model_servers_bounds_and_drain_reach_the_pod() -> None:
    made = spec(server={"drain_s": 30.5, "queue": 4})
    assert '{"drain_s":30.5,"queue":4}' in made["containers"][0]["args"]
    assert made["terminationGracePeriodSeconds"] == 5 + 31 + 10


@pytest.mark.parametrize(("tag", "version"), [("v3", "v3"), ("_x", "1"), ("1.0", "1.0"), ("a.", "1")])
def test_the_version_is_the_tag_where_the_server_takes_it(tag: str, version: str) -> None:
    args = spec(model=model(reference=f"default/digits:{tag}"))["containers"][0]["args"]
    assert args[args.index("--version") + 1] == version


def test_every_runtime_has_probes_and_ports() -> None:
    for runtime in RUNTIMES.values():
        given = settings(serving_openscoring_image="example.org/o:1")
        served = workload(model=model(runtime.formats[0], outputs=(Y,)), runtime=runtime.name)
        made = pod_spec(served, "kubernetes", given)["containers"][0]
        assert made["ports"][0]["containerPort"] == runtime.http
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= made.keys()
