"""The job's document: every field's type, range, pattern and default, and messages that name the field."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import InvalidField, Refused
from catchment.jobs import secure
from catchment.jobs.spec import SERVER_FIELDS, Job, parse_job

MINIMAL: dict[str, Any] = {
    "id": "digits",
    "runtime": "pytorch",
    "output": "out",
    "task_entry": "train",
    "model_path": "models/init.pt",
}
HYPER, RESOURCE = "hyper_parameters", "resource"
MISSING = object()


def body(path: str = "", value: Any = MISSING, **changes: Any) -> dict[str, Any]:
    """A valid job with one dotted field set."""
    made = {**MINIMAL, **changes}
    if path:
        *parents, last = path.split(".")
        place = made
        for parent in parents:
            place[parent] = dict(place.get(parent, {}))
            place = place[parent]
        place[last] = value
    return made


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in MINIMAL.items() if name != field}


def look(job: Job, path: str) -> Any:
    value: Any = job
    for part in path.split("."):
        value = getattr(value, part)
    return value


def refusal(given_body: object) -> InvalidField:
    with pytest.raises(InvalidField) as raised:
        parse_job(given_body)
    assert str(raised.value).startswith(raised.value.field)
    return raised.value


# Defaults

DEFAULTS = {
    "hyper_parameters.max_round_num": 10,
    "hyper_parameters.client_num": 1,
    "hyper_parameters.threshold_client_num": 1,
    "hyper_parameters.evaluate_interval": 2,
    "hyper_parameters.save_interval": 5,
    "hyper_parameters.round_timeout": 3600,
    "hyper_parameters.learning_rate": 1.0,
    "resource.worker_num": 1,
    "resource.cpu": 1.0,
    "resource.gpu": 0,
    "resource.memory": 1000,
    "random_client": False,
    "untrained_first": False,
    "redundancy": 1.0,
    "parameters": {},
    "description": None,
    "clients": None,
    "datasets": None,
    "port": None,
    "ssl": None,
    "seed": None,
}


@pytest.mark.parametrize(("field", "default"), DEFAULTS.items())
def test_a_field_left_out_has_the_documents_default(field: str, default: Any) -> None:
    assert look(parse_job(MINIMAL), field) == default
    if "." in field:
        assert look(parse_job(body(field.split(".", maxsplit=1)[0], {})), field) == default


@pytest.mark.parametrize("field", ["id", "runtime", "output"])
def test_required_fields_are_required(field: str) -> None:
    assert refusal(without(field)).field == field
    assert "is required" in str(refusal(without(field)))


# Types and ranges

COUNTS = {
    f"{HYPER}.max_round_num": 2**31 - 1,
    f"{HYPER}.evaluate_interval": 2**31 - 1,
    f"{HYPER}.save_interval": 2**31 - 1,
    f"{HYPER}.client_num": 2**31 - 1,
    f"{HYPER}.threshold_client_num": 1,
    f"{HYPER}.round_timeout": 30 * 86400,
    f"{RESOURCE}.worker_num": 1024,
    f"{RESOURCE}.memory": 2**31 - 1,
}
NO_INTEGER = [1.0, 1.5, "1", True, None, [1], {}, math.nan]
NO_FLOAT = ["1.0", True, None, [1.0], {}, math.nan, math.inf, -math.inf]
NO_TEXT = [1, 1.0, True, ["a"], {}]
NO_BOOL = [0, 1, "true", "yes", None, [], {}]
NO_OBJECT = ["x", 1, True, [], [{}]]


@pytest.mark.parametrize(("field", "largest"), COUNTS.items())
def test_a_count_is_an_integer_from_one_to_its_limit(field: str, largest: int) -> None:
    for right in (1, largest):
        assert look(parse_job(body(field, right)), field) == right
    for wrong in (0, -1, 2**31 * 100, *NO_INTEGER):
        assert refusal(body(field, wrong)).field == field


RANGES = [
    (f"{RESOURCE}.gpu", [0, 1024], [-1, 1025, *NO_INTEGER]),
    ("port", [1024, 65535, None], [1023, 65536, 0, -1, "8080", 8080.0, True]),
    ("seed", [0, 2**63 - 1, None], [-1, 2**63, 1.0, "1", True]),
    (f"{HYPER}.learning_rate", [1e-9, 1, 1.0, 1e9], [0, -1.0, *NO_FLOAT]),
    (f"{RESOURCE}.cpu", [0.1, 1, 4096.0], [0, -1.0, 4097, *NO_FLOAT]),
    ("redundancy", [1, 1.0, 1.5, 2.0], [0.99, 2.01, 0, -1, *NO_FLOAT]),
    ("random_client", [True, False], NO_BOOL),
    ("untrained_first", [True, False], NO_BOOL),
    ("description", ["", "any\ntext", "ä" * 10_000, None], ["x" * 10_001, *NO_TEXT]),
    (HYPER, [{}], NO_OBJECT),
    (RESOURCE, [{}], NO_OBJECT),
    ("parameters", [{}], [*NO_OBJECT, None]),
    ("model_path", ["a", "x" * 4096], ["", "x" * 4097, "a\x00b", *NO_TEXT]),
    ("output", ["a", "a b/ü"], ["", "x" * 4097, "a\x00b", None, *NO_TEXT]),
    ("task_entry", ["train", "Train_1.v-2"], ["", "a b", "-rf", "../x", "a/b", "a\n", "x" * 256, *NO_TEXT]),
    (
        "id",
        ["a", "0", "a-b", "a" * 100],
        ["", "A", "-a", "a-", "a_b", "a.b", "a b", "a\n", "ä", "a" * 101, "a/b", "..", None, *NO_TEXT],
    ),
    ("runtime", ["pytorch", "PyTorch", "KERAS"], ["", "torch", "jax", "pytorch ", None, *NO_TEXT]),
    ("clients", [None, "a", "10.0.0.1:80, b ,c"], ["", " ", ",", " , ,", "a b", *NO_TEXT]),
    ("datasets", [None, "digits", "a, b"], ["", ",", "a b", "../x", "a/b", "-x", *NO_TEXT]),
]


@pytest.mark.parametrize(("field", "right", "wrong"), RANGES, ids=[row[0] for row in RANGES])
def test_a_field_takes_what_is_right_and_names_itself_for_the_rest(
    field: str, right: list[Any], wrong: list[Any]
) -> None:
    for value in right:
        parse_job(body(field, value))
    for value in wrong:
        assert refusal(body(field, value)).field == field, value


def test_integers_are_fine_where_floats_belong() -> None:
    job = parse_job(body("redundancy", 2, resource={"cpu": 3}, hyper_parameters={"learning_rate": 1}))
    assert (job.redundancy, job.resource.cpu, job.hyper_parameters.learning_rate) == (2.0, 3.0, 1.0)


@pytest.mark.parametrize("given_body", [None, 1, "x", [], [MINIMAL], True, 1.5])
def test_a_body_must_be_an_object(given_body: object) -> None:
    assert refusal(given_body).field == "body"


@pytest.mark.parametrize(
    "field",
    [
        "nonsense",
        "Id",
        "hyperparameters",
        "hyper_parameters.client_nums",
        "resource.cpus",
        "scripts.files",
        "secure_algorithm.noise",
        "optimizer.lr",
        "optimizer.params.momentum",
        "loss.alpha",
        "loss.params.train_model",
        "extenders.script",
        "strategy.nam",
        "compression.kind",
        "register.tag",
    ],
)
def test_unknown_keys_are_refused_by_name(field: str) -> None:
    error = refusal(body(field, 1, **({"task_entry": None} if field.startswith("scripts") else {})))
    assert f"{field}: is not a field of this object" in str(error)


def test_all_mistakes_are_named_at_once() -> None:
    error = refusal(body(f"{HYPER}.client_num", 0, runtime="jax", nonsense=1))
    assert all(name in str(error) for name in ("runtime", "hyper_parameters.client_num", "nonsense"))


def test_a_long_or_deep_value_is_shown_by_its_beginning() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    for value in ("x" * 1_000_000, list(range(100_000)), deep, {"a": deep}):
        assert len(str(refusal(body(f"{HYPER}.client_num", value)))) < 400


def test_null_stands_for_left_out_where_nothing_is_the_default() -> None:
    fields = ("description", "model_id", "checkpoint_id", "clients", "port", "scripts", "ssl", "datasets")
    later = ("extenders", "secure_algorithm", "optimizer", "loss", "strategy", "compression", "register")
    assert parse_job(body(**dict.fromkeys((*fields, *later)))) == parse_job(MINIMAL)


# What belongs together


def test_task_entry_and_scripts_exclude_each_other() -> None:
    scripts = {"path": "scripts", "config_file": "train.json"}
    assert parse_job({**without("task_entry"), "scripts": scripts}).scripts is not None
    assert refusal(body(scripts=scripts)).field == "task_entry"
    assert "excludes scripts" in str(refusal(body(scripts=scripts)))
    assert refusal(without("task_entry")).field == "task_entry"


@pytest.mark.parametrize("field", ["path", "config_file"])
def test_scripts_need_both_of_their_fields(field: str) -> None:
    scripts = {"path": "scripts", "config_file": "train.json"}
    scripts.pop(field)
    assert refusal({**without("task_entry"), "scripts": scripts}).field == f"scripts.{field}"
    for wrong in ("", 1, None, "a\x00"):
        error = refusal({**without("task_entry"), "scripts": {**scripts, field: wrong}})
        assert error.field.startswith("scripts.")


def test_one_model_source_is_needed_and_the_documented_priority_decides() -> None:
    assert refusal(without("model_path")).field == "model_path"
    assert parse_job(MINIMAL).model_source == ("model_path", "models/init.pt")
    both = parse_job(body(checkpoint_id="checkpoint_v1", model_id="m"))
    assert both.model_source == ("checkpoint_id", "checkpoint_v1")
    assert parse_job(body(model_id="m")).model_source == ("model_id", "m")


def test_the_threshold_is_at_most_client_num() -> None:
    parse_job(body(hyper_parameters={"client_num": 3, "threshold_client_num": 3}))
    error = refusal(body(hyper_parameters={"client_num": 2, "threshold_client_num": 3}))
    assert error.field == HYPER
    assert "threshold_client_num is 3, it must be at most client_num, 2" in str(error)


def test_clients_must_be_at_least_client_num() -> None:
    hyper = {"client_num": 2}
    assert parse_job(body(clients="b, a,b ,", hyper_parameters=hyper)).client_labels == ["b", "a"]
    error = refusal(body(clients="a,a", hyper_parameters=hyper))
    assert error.field == "clients"
    assert "names 1 sites, hyper_parameters.client_num asks for 2" in str(error)


def test_datasets_are_split_as_the_document_shows() -> None:
    assert parse_job(body(datasets="dataset1, dataset2")).dataset_names == ["dataset1", "dataset2"]


# What others send


@pytest.mark.parametrize("name", ["tensorflow", "TensorFlow", "TENSORFLOW", "Keras"])
def test_the_originals_word_for_keras_is_understood(name: str) -> None:
    assert parse_job(body(runtime=name)).runtime == "keras"


def test_the_originals_name_of_extenders_is_understood() -> None:
    named = {"script_path": "x", "finish": "f"}
    assert parse_job(body(extender=named)) == parse_job(body(extenders=named))
    assert parse_job(body(extender=named)).extender_functions == {"finish": "f"}
    assert refusal(body(extender={"script_path": "x"}, extenders={})).field == "extender"


def test_what_get_shows_may_be_sent_back() -> None:
    server = {name: {"anything": ["at", "all"]} for name in SERVER_FIELDS}
    assert parse_job({**MINIMAL, **server}) == parse_job(MINIMAL)


# Parameters

PARAMETERS = {
    "--lr": 0.1,
    "--epochs": 1,
    "--whole": 1.0,
    "-v": None,
    "--flag": True,
    "--name": "x y",
    "z": "",
    "a": -1,
}


def test_parameters_keep_order_and_types() -> None:
    kept = parse_job(body(parameters=PARAMETERS)).parameters
    assert list(kept) == list(PARAMETERS)
    assert [(type(value), value) for value in kept.values()] == [
        (type(value), value) for value in PARAMETERS.values()
    ]


def test_parameters_survive_being_stored() -> None:
    job = parse_job(body(parameters=PARAMETERS))
    stored = json.loads(json.dumps(job.model_dump(mode="json", by_alias=True, exclude_none=True)))
    stored["parameters"] = dict(job.parameters)
    again = Job.model_validate(json.loads(json.dumps(stored))).parameters
    assert [(key, type(value), value) for key, value in again.items()] == [
        (key, type(value), value) for key, value in PARAMETERS.items()
    ]


@pytest.mark.parametrize("value", [[1], {"a": 1}, math.nan, math.inf, "a\x00b"])
def test_a_parameter_is_a_plain_value(value: Any) -> None:
    error = refusal(body(parameters={"--right": 1, "--wrong": value}))
    assert error.field.startswith("parameters")
    assert "--wrong" in str(error)


@pytest.mark.parametrize("key", ["", "a\x00b"])
def test_a_parameters_key_is_text_that_a_command_line_can_carry(key: str) -> None:
    assert refusal(body(parameters={key: 1})).field.startswith("parameters")


# What comes later


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", {"name": "fedprox", "params": {"mu": 0.6}}),
        (
            "optimizer",
            {"name": "scaffold", "params": {"learning_rate": 0.1, "batch_size": 8, "sample_num": 9}},
        ),
        ("optimizer", {"name": "fedprox"}),
        ("loss", {"name": "feddc", "params": {"alpha": 0.1, "lr": 0.1, "epoch": 1, "batch_size": 8}}),
        ("loss", {"name": "feddc"}),
        ("strategy", {"name": "trimmed_mean", "params": {"trim": 0.3, "local": ["bn.*"]}}),
        ("compression", {"type": "topk", "params": {"ratio": 0.1}}),
    ],
)
def test_algorithms_are_kept_as_they_were_sent(field: str, value: Any) -> None:
    job = parse_job(body(field, value))
    kept = getattr(job, field).model_dump(exclude_none=True)
    assert kept == {"params": {}, **value}


def test_a_result_may_be_registered_and_a_model_named_by_its_id() -> None:
    job = parse_job(body(register={"name": "digits"}, model_id="some-id", model_path=None))
    assert job.register_ is not None
    assert (job.register_.name, job.register_.version, job.register_.checkpoint) == ("digits", None, "final")
    assert job.model_source == ("model_id", "some-id")


@pytest.mark.parametrize("mode", ["DoubleMask", "onemask", None])
def test_secure_aggregation_needs_two_sites_and_fills_its_defaults(mode: str | None) -> None:
    fields = {"type": "SSA", "mode": mode, "use_same_mask": True}
    hyper = {"client_num": 5, "threshold_client_num": 2}
    job = parse_job(body(secure_algorithm=fields, hyper_parameters=hyper))
    assert secure.threshold_of(job) == 2
    assert secure.mode_of(job) == (mode or "doublemask").lower()
    warnings = " ".join(secure.warnings_of(job))
    assert "use_same_mask has no effect" in warnings
    assert ("threshold is 2 of 5 sites" in warnings) == (mode != "onemask")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        (f"{HYPER}.threshold_client_num", {"hyper_parameters": {"client_num": 3}}),
        ("redundancy", {"redundancy": 1.5, "secure_algorithm": {"type": "SSA", "mode": "onemask"}}),
        ("secure_algorithm.neighbours", {"secure_algorithm": {"type": "SSA", "neighbours": 3}}),
        ("secure_algorithm.sample_cap", {"secure_algorithm": {"type": "SSA", "sample_cap": 2**31 - 1}}),
        ("secure_algorithm.clip_value", {"secure_algorithm": {"type": "SSA", "clip_value": 0}}),
        ("secure_algorithm", {"secure_algorithm": {"type": "SSA", "clip_norm": 1.0}}),
        ("secure_algorithm.threshold", {"secure_algorithm": {"type": "SSA", "threshold": 3}}),
        ("compression", {"compression": {"type": "bf16"}}),
        ("strategy.name", {"strategy": {"name": "median"}}),
        ("strategy.name", {"strategy": {"name": "fednova"}}),
        ("strategy.name", {"strategy": {"name": "fedbuff"}}),
        ("extenders.aggregate", {"extenders": {"script_path": "e", "entry": "e.py", "aggregate": "f"}}),
    ],
)
def test_what_secure_aggregation_cannot_do_is_refused_at_submit(field: str, changes: dict[str, Any]) -> None:
    hyper = {"client_num": 3, "threshold_client_num": 2}
    assert (
        refusal(body(**{"secure_algorithm": {"type": "SSA"}, "hyper_parameters": hyper, **changes})).field
        == field
    )


WRONG_LATER = [
    ("secure_algorithm.type", {"type": "HE"}),
    ("secure_algorithm.type", {}),
    ("secure_algorithm", {"type": "DP"}),
    ("secure_algorithm", {"type": "SSA", "noise_multiplier": 1.0}),
    ("secure_algorithm", {"type": "DP", "noise_multiplier": 1.0, "mode": "onemask"}),
    ("secure_algorithm.noise_multiplier", {"type": "DP", "noise_multiplier": -1}),
    ("secure_algorithm.threshold", {"type": "SSA", "threshold": 1}),
    ("secure_algorithm.threshold", {"type": "SSA", "threshold": 2}),
    ("secure_algorithm.mode", {"type": "SSA", "mode": "triplemask"}),
    ("secure_algorithm.use_same_mask", {"type": "SSA", "use_same_mask": 1}),
    ("secure_algorithm.delta", {"type": "DP", "noise_multiplier": 1, "delta": 1}),
    ("secure_algorithm.clip_norm", {"type": "DP", "noise_multiplier": 1, "clip_norm": 0}),
    ("optimizer.name", {"name": "adam"}),
    ("optimizer.name", {}),
    ("optimizer.params.mu", {"name": "fedprox", "params": {"mu": -1}}),
    ("optimizer.params.batch_size", {"name": "scaffold", "params": {"batch_size": 0}}),
    ("loss.name", {"name": "cross_entropy"}),
    ("loss.params.alpha", {"name": "feddc", "params": {"alpha": 0}}),
    ("loss.params.epoch", {"name": "feddc", "params": {"epoch": 1.5}}),
    ("strategy.name", {}),
    ("strategy.name", {"name": "../krum"}),
    ("compression.type", {"type": ""}),
    ("extenders.script_path", {"script_path": 1}),
    ("register.name", {"name": "Digits"}),
    ("register.version", {"name": "digits", "version": "-1"}),
]


@pytest.mark.parametrize(("named", "value"), WRONG_LATER, ids=[f"{n}-{v}" for n, v in WRONG_LATER])
def test_what_comes_later_is_validated_all_the_same(named: str, value: Any) -> None:
    error = refusal(body(named.split(".", maxsplit=1)[0], value))
    assert error.field == named


# Anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=25,
)


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_job_or_refused(value: Any) -> None:
    with contextlib.suppress(Refused):
        parse_job(value)


@given(
    st.dictionaries(st.sampled_from([*Job.model_fields, "register", "extender", "x", *SERVER_FIELDS]), JSON)
)
@settings(max_examples=200, deadline=None)
def test_any_values_in_known_fields_are_a_job_or_refused(changes: dict[str, Any]) -> None:
    with contextlib.suppress(Refused):
        parse_job({**MINIMAL, **changes})


@given(
    st.fixed_dictionaries(
        {
            "hyper_parameters": st.dictionaries(
                st.sampled_from(["max_round_num", "client_num", "learning_rate", "round_timeout"]), JSON
            ),
            "resource": st.dictionaries(st.sampled_from(["cpu", "gpu", "memory", "worker_num"]), JSON),
            "parameters": st.dictionaries(st.text(), JSON),
        }
    )
)
@settings(max_examples=200, deadline=None)
def test_any_values_deeper_down_are_a_job_or_refused(changes: dict[str, Any]) -> None:
    with contextlib.suppress(Refused):
        job = parse_job({**MINIMAL, **changes})
        again = Job.model_validate(json.loads(job.model_dump_json(by_alias=True)))
        assert again.hyper_parameters == job.hyper_parameters
