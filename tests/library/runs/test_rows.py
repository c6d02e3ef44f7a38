"""What is not there is said in the same way of jobs, ModelJobs and servings."""

from __future__ import annotations

from types import ModuleType

import pytest

from catchment.errors import NotFound
from catchment.jobs import rows as jobs
from catchment.model_jobs import rows as model_jobs
from catchment.serving import rows as servings
from catchment.store import Store


@pytest.mark.parametrize(("rows", "kind"), [(jobs, "job"), (model_jobs, "ModelJob"), (servings, "serving")])
def test_what_is_not_there_is_named(store: Store, rows: ModuleType, kind: str) -> None:
    assert store.db.write(lambda tx: rows.find(tx, "plants", "digits", lock=True)) is None
    with pytest.raises(NotFound, match=f"^{kind} 'digits' does not exist in namespace 'plants'$"):
        store.db.read(lambda tx: rows.require(tx, "plants", "digits"))
    with pytest.raises(NotFound, match=f"^the {kind} was deleted$"):
        store.db.read(lambda tx: rows.by_uid(tx, "1f0e"))
