"""The audit is only ever added to."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from catchment.store import Store
from catchment.store.schema import audit
from tests.library.catalog.conftest import Make


@pytest.mark.parametrize("statement", [update(audit).values(actor="nobody"), delete(audit)])
def test_the_database_itself_refuses_to_change_it(store: Store, create: Make, statement: object) -> None:
    create()
    with pytest.raises(DBAPIError, match="only ever added to"):
        store.db.write(lambda tx: tx.execute(statement))  # type: ignore[call-overload]
    assert len(store.db.read(lambda tx: tx.execute(select(audit)).all())) == 1
