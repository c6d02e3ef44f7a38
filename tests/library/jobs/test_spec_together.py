"""Fields of a job that belong together, other programs' words for them, and parameters."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from catchment.jobs.spec import SERVER_FIELDS, Job, parse_job
from tests.library.jobs.specs import HYPER, MINIMAL, body, refusal, without


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


def test_a_result_may_be_registered_and_a_model_named_by_its_id() -> None:
    job = parse_job(body(register={"name": "digits"}, model_id="some-id", model_path=None))
    assert job.register_ is not None
    assert (job.register_.name, job.register_.version, job.register_.checkpoint) == ("digits", None, "final")
    assert job.model_source == ("model_id", "some-id")


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
