"""A model's config: to the byte as the original writes it, and read as tolerantly as the original reads."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import BadArtifact, CatchmentError
from catchment.models import times
from catchment.models.config import Measure, ModelConfig, Signature, Tensor, from_json, from_yaml

FULL = ModelConfig(
    author="Mia <mia@site.org> & co",
    created="2021-03-09T09:38:13.250+08:00",
    description="Zeile\u2028zwei 😀",
    tags=("a", "b"),
    labels={"z": "1", "a": "2"},
    format="ONNX",
    gpu_type="T4",
    framework="ONNX",
    metrics={"train": (Measure(name="acc", value="0.9"),)},
    hyper_parameters=(Measure(name="lr", value=""),),
    signature=Signature(
        inputs=(Tensor(name="x", size=(-1, 4), d_type="float32"),), layers={"Relu": 1, "Gemm": 2}
    ),
    training={"git": {"repository": "r", "revision": "abc"}},  # type: ignore[arg-type]
    dataset={},  # type: ignore[arg-type]
    directory_structure=("model/m.onnx",),
)
FULL_JSON = (
    rb'{"author":"Mia \u003cmia@site.org\u003e \u0026 co","created":"2021-03-09T09:38:13.25+08:00",'
    + '"description":"Zeile\\u2028zwei 😀",'.encode()
    + rb'"tags":["a","b"],"labels":{"a":"2","z":"1"},"format":"ONNX","gpuType":"T4","framework":"ONNX",'
    rb'"metrics":{"train":[{"name":"acc","value":"0.9"}]},"hyperParameters":[{"name":"lr","value":""}],'
    rb'"signature":{"inputs":[{"name":"x","size":[-1,4],"dType":"float32"}],"layers":{"Gemm":2,"Relu":1}},'
    rb'"training":{"git":{"repository":"r","revision":"abc"}},"dataset":{"git":{}},'
    rb'"directoryStructure":["model/m.onnx"]}'
)


def test_all_fields_to_the_byte() -> None:
    assert FULL.to_json() == FULL_JSON


def test_an_empty_config_still_says_created() -> None:
    assert ModelConfig().to_json() == b'{"created":"0001-01-01T00:00:00Z"}'
    # printf '{"created":"0001-01-01T00:00:00Z"}' | sha256sum
    digest = "cc3dca3d9c1515dd0379c9fd49af1281e08a19443ee116cb7703745ab6ef49b9"
    assert hashlib.sha256(ModelConfig().to_json()).hexdigest() == digest


def test_json_and_yaml_come_back_as_they_went() -> None:
    assert from_json(FULL.to_json()) == FULL
    assert from_yaml(FULL.to_yaml()) == FULL


@pytest.mark.parametrize(
    "text",
    [
        "y",
        "on",
        "no",
        "null",
        "~",
        "1e-3",
        "0.9",
        "0x1F",
        "1:30",
        "2021-03-09",
        "",
        "=",
        "<<",
        " x ",
        "a: b",
        "#",
        "\n",
        "\0",
        "\x85",
        "- a",
        "@",
        "1_000",
        ".inf",
    ],
)
def test_texts_that_yaml_could_take_for_something_else_are_quoted(text: str) -> None:
    config = ModelConfig(author=text, tags=(text,), labels={text: text})
    assert from_yaml(config.to_yaml()) == config
    # PyYAML's own loader knows numbers, booleans and times: it must see texts too.
    assert yaml.safe_load(config.to_yaml()).get("author", "") == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_any_text_and_size_survives_both_forms(text: str, size: list[int]) -> None:
    config = ModelConfig(description=text, signature=Signature(inputs=(Tensor(name=text, size=tuple(size)),)))
    assert from_json(config.to_json()) == config
    assert from_yaml(config.to_yaml()) == config


@pytest.mark.parametrize(
    ("given_json", "written"),
    [
        ("{}", '{"created":"0001-01-01T00:00:00Z"}'),
        ('{"created":null}', '{"created":"0001-01-01T00:00:00Z"}'),
        ('{"created":"2020-01-01T00:00:00+00:00"}', '{"created":"2020-01-01T00:00:00Z"}'),
        ('{"created":"2020-01-01T00:00:00.120300Z"}', '{"created":"2020-01-01T00:00:00.1203Z"}'),
        (
            '{"version":3,"size":1,"format":"mine"}',
            '{"created":"0001-01-01T00:00:00Z","format":"mine"}',
        ),
        (
            '{"metrics":{"m":[{"name":"acc","value":0.9}]}}',
            '{"created":"0001-01-01T00:00:00Z","metrics":{"m":[{"name":"acc","value":"0.9"}]}}',
        ),
        (
            '{"signature":{"inputs":[{"size":[null,1.0,-1],"tensorName":"t"},{"size":[]}]}}',
            '{"created":"0001-01-01T00:00:00Z","signature":{"inputs":[{"size":[0,1,-1]},{}]}}',
        ),
        ('{"signature":{}}', '{"created":"0001-01-01T00:00:00Z","signature":{}}'),
        ('{"signature":null,"author":true}', '{"author":"true","created":"0001-01-01T00:00:00Z"}'),
        ('{"author":"\\u00e9"}', '{"author":"é","created":"0001-01-01T00:00:00Z"}'),
    ],
)
def test_what_the_original_accepts(given_json: str, written: str) -> None:
    assert from_json(given_json.encode()).to_json() == written.encode()


@pytest.mark.parametrize(
    ("given_json", "said"),
    [
        ('{"created":"2020-01-01"}', "created: '2020-01-01' is no RFC 3339 time"),
        ('{"created":"2020-01-01T00:00:00"}', "with a zone"),
        ('{"created":"yesterday"}', "RFC 3339"),
        ('{"created":"2020-02-30T00:00:00Z"}', "is no time"),
        ('{"created":"2020-02-03T00:00:00+25:00"}', "offset"),
        ('{"signature":{"inputs":[{"size":["N"]}]}}', "signature.inputs.0.size.0: 'N' is no whole number"),
        ('{"signature":{"inputs":[{"size":[99999999999999999999]}]}}', "whole number"),
        ('{"signature":{"inputs":[{"size":[1.5]}]}}', "whole number"),
        ('{"metrics":[{"name":"acc","value":"1"}]}', "metrics"),
        ('{"author":"\\ud83d"}', "surrogate"),
        ('{"author":NaN}', "no JSON"),
        ("[]", "object"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("\xff", "no JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_field(given_json: str, said: str) -> None:
    with pytest.raises(BadArtifact, match=said):
        from_json(given_json.encode("latin-1"))


def test_an_ormbfile_as_people_write_it() -> None:
    config = from_yaml(
        b"""
author: Mia
created: 2021-03-09T09:38:13Z
format: ONNX
version: 3
labels: {rounds: 12, final: yes}
signature:
  inputs:
  - {name: on, size: [-1, 4, 1.0], dType: float32}
metrics:
  train: [{name: loss, value: 1e-3}]
"""
    )
    assert config.created == "2021-03-09T09:38:13Z"
    assert config.labels == {"rounds": "12", "final": "yes"}
    assert config.signature == Signature(inputs=(Tensor(name="on", size=(-1, 4, 1), d_type="float32"),))
    assert config.metrics == {"train": (Measure(name="loss", value="1e-3"),)}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"a: &a [1, 1]\nb: [*a, *a]", "anchors"),
        (b"a: !!python/object/apply:os.getcwd []", "tag"),
        (b"[" * 5000, "nested"),
        (b"a: [", "no YAML"),
        (b"- a", "mapping|object"),
        (b"a: 1\n---\nb: 2", "no YAML"),
        (b"#" * (2**20 + 1), "bytes"),
        (b"\xff", "no YAML"),
    ],
)
def test_yaml_that_could_harm_is_refused(document: bytes, said: str) -> None:
    with pytest.raises(BadArtifact, match=said):
        from_yaml(document)


def test_times_of_python_are_written_in_utc() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 600_000, timezone(timedelta(hours=8)))
    assert times.from_datetime(moment) == "2026-01-01T19:04:05.6Z"
    assert times.from_datetime(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00Z"
    with pytest.raises(ValueError, match="zone"):
        times.from_datetime(datetime(2026, 1, 2))  # noqa: DTZ001


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_config_is_read_or_refused(data: st.DataObject) -> None:
    document = bytearray(data.draw(st.sampled_from([FULL_JSON, FULL.to_yaml()])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(document) - 1))
        document[place : place + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
        document = document or bytearray(b"x")
    for read in (from_json, from_yaml):
        try:
            config = read(bytes(document))
        except CatchmentError:
            continue
        assert from_json(config.to_json()) == config
