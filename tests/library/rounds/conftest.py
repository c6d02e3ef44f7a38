from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catchment.store import Store
from tests.secure_rounds import trains_as
from tests.secure_sites import SecureSite
from tests.thread_sites import accuracy


@pytest.fixture
def secure_site(store: Store, tmp_path: Path) -> Iterator[Callable[..., SecureSite]]:
    """Makes sites that mask their updates."""
    made: list[SecureSite] = []

    def make(name: str, **more: Any) -> SecureSite:
        train = more.pop("train", trains_as(name))
        made.append(SecureSite(store, name, tmp_path, train, accuracy, **more))
        return made[-1]

    yield make
    for site in made:
        site.die()
