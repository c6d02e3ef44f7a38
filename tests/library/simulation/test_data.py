"""Parts of data sets are dealt to the clients in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from catchment.errors import InvalidField
from catchment.simulation.data import DataParts
from catchment.simulation.fleet import client_names


def test_clients_get_the_parts_in_turn(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz", "c.npz", "notes.txt"):
        (tmp_path / name).touch()
    parts = DataParts({"digits": f"{tmp_path}/*.npz"})
    given = [Path(parts.of(name, ["digits"])["digits"]).name for name in client_names("default", "j", 5)]
    assert given == ["a.npz", "b.npz", "c.npz", "a.npz", "b.npz"]


@pytest.mark.parametrize(("pattern", "told"), [("/nowhere/*", "fits no file"), ("parts/*", "no absolute")])
def test_a_pattern_that_leads_nowhere_is_refused(pattern: str, told: str) -> None:
    with pytest.raises(InvalidField, match=told):
        DataParts({"digits": pattern})


def test_a_data_set_of_the_job_without_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="'letters'"):
        DataParts({"digits": str(tmp_path)}).check(["letters"])
