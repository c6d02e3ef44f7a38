"""What the table of formats says can be done with each, the readers and routes do, and nothing else."""

from __future__ import annotations

from catchment.formats.convert.routes import ROUTES
from catchment.formats.extract.readers import READERS
from catchment.models.formats import FORMATS


def test_the_table_names_the_formats_that_have_a_reader() -> None:
    assert {name for name, each in FORMATS.items() if each.extractable} == set(READERS)


def test_the_table_names_the_conversions_that_have_a_route() -> None:
    said = {(name, target) for name, each in FORMATS.items() for target in each.converts_to}
    assert said == set(ROUTES)
