"""What real frameworks wrote is found again, in the confined child and without the frameworks."""

from __future__ import annotations

import pytest

from catchment.formats.extract.readers import READERS
from catchment.formats.extract.result import Extracted
from catchment.formats.extract.running import run_extraction
from tests.library.formats.extract.sampled import ALL, Sample

WITHOUT_A_SAMPLE = {"PMML", "NetDef", "TensorRT", "Safetensors"}
"""Written by hand in their own tests, or by the installed library."""


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.folder)
def test_a_real_model_is_described(sample: Sample) -> None:
    found = run_extraction(sample.path, sample.format)
    assert [each.to_json() for each in found.inputs] == sample.inputs
    assert [each.to_json() for each in found.outputs] == sample.outputs
    assert found.layers == sample.layers
    assert found.parameters == sample.parameters
    assert found.framework_version == sample.version
    assert {key: found.extras[key] for key in sample.extras} == sample.extras
    assert found.size_bytes == sum(path.stat().st_size for path in sample.path.iterdir())


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.folder)
def test_what_is_missing_is_told_in_words(sample: Sample) -> None:
    found = run_extraction(sample.path, sample.format)
    told = " ".join(found.absent)
    for word, there in (("input", found.inputs), ("output", found.outputs)):
        assert there or word in told
    assert found.framework_version or "version" in told
    assert found.parameters is not None or "parameters" in told


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.folder)
def test_a_result_survives_its_way_as_json(sample: Sample) -> None:
    found = run_extraction(sample.path, sample.format)
    assert Extracted.from_json(found.to_json()) == found


def test_every_format_has_a_sample_or_tests_of_its_own() -> None:
    assert {sample.format for sample in ALL} | WITHOUT_A_SAMPLE == set(READERS)
