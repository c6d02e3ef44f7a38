"""Files as archives: equal bytes for equal files, and what unpacks is what passes the check."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment import archives
from catchment.errors import BadTensors

CONTENT = archives.Content("the files", BadTensors, flat=True)
NAMES = st.text(
    st.characters(blacklist_characters="/\\\0", blacklist_categories=["Cs"]), min_size=1, max_size=50
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(NAMES.filter(lambda name: name not in (".", "..")), st.binary(max_size=200), max_size=5)
)
def test_what_was_packed_comes_out_again(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]):
    folder = tmp_path_factory.mktemp("pack")
    paths: dict[str, Path] = {}
    for index, (name, data) in enumerate(files.items()):
        paths[name] = folder / str(index)
        paths[name].write_bytes(data)
    archives.pack(paths, folder / "a.zip")
    archives.pack(dict(reversed(paths.items())), folder / "b.zip")
    assert (folder / "a.zip").read_bytes() == (folder / "b.zip").read_bytes()
    archives.check(folder / "a.zip", CONTENT)
    archives.unpack(folder / "a.zip", folder / "out", CONTENT)
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == files


def test_a_damaged_member_is_found_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"precious content")
    archives.pack({"x": tmp_path / "x"}, tmp_path / "a.zip")
    damaged = (tmp_path / "a.zip").read_bytes().replace(b"precious", b"worthles")
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(BadTensors, match="no usable zip"):
        archives.check(tmp_path / "a.zip", CONTENT)
