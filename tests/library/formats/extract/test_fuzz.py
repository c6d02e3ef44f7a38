"""Whatever is done to a sample's bytes: a result or an error in words, in bounded time."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import ExtractionFailed
from catchment.formats.extract.__main__ import _told
from catchment.formats.extract.running import Limits, run_extraction
from tests.library.formats.extract.sampled import ALL, Sample
from tests.library.formats.extract.test_fields import PMML, nets

LIMITS = Limits(memory_mb=256, cpu_s=5, time_s=20)
OF_C = {"H5", "Keras"}
"""HDF5's library reads these: only in the child."""
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]

Change = tuple[str, float, int]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "double", "drop", "grow"]), st.floats(0, 1), st.integers(0, 255)
    ),
    min_size=1,
    max_size=6,
)


def changed(content: bytes, changes: list[Change]) -> bytes:
    """Bytes set, a tail cut off, a piece doubled or dropped, a number made large."""
    data = bytearray(content)
    for what, where, value in changes:
        at = int(where * len(data))
        if what == "set" and data:
            data[min(at, len(data) - 1)] = value if value % 2 else INTERESTING[value % len(INTERESTING)]
        elif what == "cut":
            del data[at:]
        elif what == "double":
            data[at:at] = data[at : at + value]
        elif what == "drop":
            del data[at : at + value % 16 + 1]
        else:
            data[at:at] = b"\xff\xff\xff\xff\x0f"
    return bytes(data)


def copied(files: dict[str, bytes], folder: Path, which: int, changes: list[Change]) -> None:
    for number, (name, content) in enumerate(sorted(files.items())):
        (folder / name).write_bytes(changed(content, changes) if number == which % len(files) else content)


def contents(sample: Sample) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sample.path.iterdir()}


HAND = {"PMML": {"m.pmml": PMML.encode()}, "NetDef": {name: bytes(data) for name, data in nets().items()}}  # type: ignore[arg-type]
SUBJECTS = [(sample.folder, sample.format, contents(sample)) for sample in ALL]
SUBJECTS += [(name, name, files) for name, files in HAND.items()]


@pytest.mark.parametrize(("name", "format_name", "files"), SUBJECTS, ids=[subject[0] for subject in SUBJECTS])
@settings(max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(which=st.integers(0, 3), changes=CHANGES)
def test_a_changed_file_gives_a_result_or_a_clean_error(
    name: str, format_name: str, files: dict[str, bytes], which: int, changes: list[Change]
) -> None:
    if format_name in OF_C:
        pytest.skip("in the child, below")
    with tempfile.TemporaryDirectory() as folder:
        copied(files, Path(folder), which, changes)
        told = _told(Path(folder), format_name, None)
    # What readers do not foresee is told as "damaged or unusual"; here they are to foresee it.
    assert "unusual" not in str(told.get("error", "")), told
    assert "error" in told or told["format"] == format_name


@pytest.mark.parametrize(
    "sample", [each for each in ALL if each.format in OF_C], ids=lambda each: each.folder
)
@settings(max_examples=12, deadline=30_000, suppress_health_check=[HealthCheck.too_slow])
@given(changes=CHANGES)
def test_a_changed_hdf5_file_harms_the_child_alone(sample: Sample, changes: list[Change]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        copied(contents(sample), folder, 0, changes)
        found = run_extraction(folder, sample.format, LIMITS)
    except ExtractionFailed as error:
        assert str(error)  # noqa: PT017 - either may happen
    else:
        assert found.format == sample.format
    finally:
        shutil.rmtree(folder)
