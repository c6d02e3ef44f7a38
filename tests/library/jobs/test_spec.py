"""The fields of a job: defaults, types, ranges; and anything at all in their place."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import Refused
from catchment.jobs.spec import SERVER_FIELDS, Job, parse_job
from tests.library.jobs.specs import HYPER, MINIMAL, RESOURCE, body, look, refusal, without

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
