"""SeldonDeployment v1 as the original takes it: what of it is understood, and one made of a short form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from catchment.errors import InvalidField
from catchment.model_jobs.spec import Text, tagged
from catchment.registry.references import Reference

if TYPE_CHECKING:
    from catchment.serving.spec import ServingSpec

GROUP, KIND = "machinelearning.seldon.io/", "SeldonDeployment"
API_VERSION = GROUP + "v1"
IGNORED = frozenset({"svcOrchSpec", "engineResources", "explainer", "ssl", "progressDeadlineSeconds"})
"""Of predictors: parts of Seldon's own data plane, which Catchment does without."""
REFUSED = {"shadow": "mirrors traffic by itself", "trafficMatchs": "splits traffic by weight"}
SCHEMES = ("oci://", "https://", "http://")


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Parameter(_Object):
    name: Text
    value: str = ""
    type: str = "STRING"


class _Graph(_Object):
    name: Text
    model_uri: Annotated[Text, Field(alias="modelUri")]
    implementation: str | None = None
    type: str | None = None
    endpoint: dict[str, Any] | None = None
    parameters: list[_Parameter] = []
    children: list[Any] = []
    logger: dict[str, Any] | None = None
    service_account_name: Annotated[str | None, Field(alias="serviceAccountName")] = None
    env_secret: Annotated[str | None, Field(alias="envSecretRefName")] = None


class _Component(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    metadata: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    hpa: Annotated[dict[str, Any] | None, Field(alias="hpaSpec")] = None
    replicas: int | None = None


class _Predictor(_Object):
    name: str | None = None
    graph: _Graph
    components: Annotated[list[_Component], Field(alias="componentSpecs")] = []
    replicas: int | None = None
    traffic: int | None = None
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class _Spec(_Object):
    name: str | None = None
    predictors: Annotated[list[dict[str, Any]], Field(min_length=1)]
    annotations: dict[str, str] = {}
    protocol: str | None = None
    transport: str | None = None
    server_type: Annotated[str | None, Field(alias="serverType")] = None
    replicas: int | None = None
    oauth_key: str | None = None
    oauth_secret: str | None = None


def version_of(uri: str, field: str) -> Reference:
    """The version that a `modelUri` names: `[scheme://][host/]project/name:version`. Raises InvalidField."""
    for scheme in SCHEMES:
        uri = uri.removeprefix(scheme)
    return tagged(uri, field)


def understood(spec: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The spec of a SeldonDeployment as the tree of a `ServingSpec`, and the fields that are not used.

    Raises:
        InvalidField: something that Catchment does in another way, or not at all.
        pydantic.ValidationError: not Seldon's fields.
    """
    ignored: list[str] = [f"spec.{name}" for name in ("oauth_key", "oauth_secret") if name in spec]
    whole = _Spec.model_validate(spec)
    found = []
    for index, tree in enumerate(whole.predictors):
        where = f"spec.predictors.{index}"
        for name, instead in REFUSED.items():
            if tree.get(name):
                raise InvalidField(f"{where}.{name}", f"is not supported: Catchment {instead}")
        ignored += [f"{where}.{name}" for name in IGNORED & tree.keys()]
        kept = {key: value for key, value in tree.items() if key not in IGNORED and key not in REFUSED}
        known = _Predictor.model_validate(kept)
        if any(component.hpa for component in known.components):
            ignored.append(f"{where}.componentSpecs.hpaSpec")
        found.append(_predictor(known, where, len(whole.predictors), whole.replicas))
    return {"predictors": found}, tuple(ignored)


def _predictor(known: _Predictor, where: str, count: int, replicas: int | None) -> dict[str, Any]:
    graph = known.graph
    if graph.children:
        raise InvalidField(f"{where}.graph.children", "graphs of several nodes are not supported")
    pod = _pod(known, where)
    container = (pod.get("containers") or [{}])[0]
    traffic = known.traffic if known.traffic is not None else (100 if count == 1 else 0)
    if count == 1 and traffic == 0:
        traffic = 100  # as Seldon has it: without traffic said, a single predictor takes all
    variables = container.get("env") or []
    return {
        "name": (known.name or graph.name).lower(),
        "graph": graph.name.lower(),
        "model": graph.model_uri,
        "format": next((each.value for each in graph.parameters if each.name == "format"), None) or None,
        "runtime": graph.implementation or "",
        "replicas": next(each for each in (*_own(known), known.replicas, replicas, 1) if each is not None),
        "traffic": traffic,
        "resources": container.get("resources") or {},
        "env": {each["name"]: str(each["value"]) for each in variables if each.get("value") is not None},
        "pod": {} if _says_no_more(pod) else pod,
    }


def _own(known: _Predictor) -> list[int | None]:
    """As Seldon has it: a component's number of replicas goes before its predictor's."""
    return [component.replicas for component in known.components]


def _says_no_more(pod: dict[str, Any]) -> bool:
    """Whether a pod spec says nothing that the predictor's resources and variables do not say already.

    The short form has no pod spec, but the SeldonDeployment that is shown for it has: both must run alike.
    """
    if pod.keys() - {"containers"}:
        return False
    return all(
        not {key for key, value in container.items() if value} - {"name", "resources", "env"}
        and all(not each.keys() - {"name", "value"} for each in container.get("env") or [])
        for container in pod.get("containers") or []
    )


def _pod(known: _Predictor, where: str) -> dict[str, Any]:
    """The pod spec of the one component that the original asks for; none is taken for the default."""
    if not known.components:
        return {}
    if len(known.components) > 1:
        raise InvalidField(f"{where}.componentSpecs", "must have one entry: one model server a predictor")
    component = known.components[0]
    named = component.metadata.get("name")
    if named not in (None, "", known.graph.name):
        raise InvalidField(
            f"{where}.componentSpecs.0.metadata.name", f"is {named!r}, the graph is {known.graph.name!r}"
        )
    containers = component.spec.get("containers") or []
    if not isinstance(containers, list) or len(containers) > 1:
        raise InvalidField(f"{where}.componentSpecs.0.spec.containers", "must have one entry")
    for container in containers:
        _check_container(container, f"{where}.componentSpecs.0.spec.containers.0")
    return component.spec


def _check_container(container: Any, where: str) -> None:
    if not isinstance(container, dict):
        raise InvalidField(where, "must be an object")
    if len(container.get("volumeMounts") or []) > 1:
        raise InvalidField(f"{where}.volumeMounts", "must have at most one entry, for the model")
    variables = container.get("env") or []
    if not isinstance(variables, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in variables
    ):
        raise InvalidField(f"{where}.env", "must be a list of objects with name and value")


def composed(spec: ServingSpec) -> dict[str, Any]:
    """The spec of a SeldonDeployment that says the same."""
    return {"predictors": [_composed(each.model_dump(mode="json")) for each in spec.predictors]}


def _composed(predictor: dict[str, Any]) -> dict[str, Any]:
    name = predictor["graph"]
    container: dict[str, Any] = {"name": name}
    if predictor["env"]:
        container["env"] = [{"name": key, "value": value} for key, value in predictor["env"].items()]
    if resources := {key: value for key, value in predictor["resources"].items() if value}:
        container["resources"] = resources
    format_ = predictor["format"]
    graph = {
        "name": name,
        "type": "MODEL",
        "modelUri": predictor["model"],
        "parameters": [{"name": "format", "value": format_, "type": "STRING"}] if format_ else [],
        **({"implementation": predictor["runtime"]} if predictor["runtime"] else {}),
    }
    return {
        "name": predictor["name"],
        "replicas": predictor["replicas"],
        "traffic": predictor["traffic"],
        "graph": graph,
        "componentSpecs": [{"metadata": {"name": name}, "spec": {"containers": [container]}}],
    }
