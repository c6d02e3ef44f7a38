"""Every error stands in the drawn tree and in the documentation."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from catchment import errors
from catchment.errors import CatchmentError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
CLASSES = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, CatchmentError)
]


def drawn() -> dict[str, str | None]:
    """Class -> base, as the picture in errors.py's docstring shows them."""
    tree: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([│ ]*)(├── |└── )?([A-Z]\w+)(?:  |$)", line)
        if found is None or (not found[2] and found[3] != "CatchmentError"):
            continue
        depth = 0 if not found[2] else len(found[1]) // 4 + 1
        del above[depth:]
        tree[found[3]] = above[-1] if above else None
        above.append(found[3])
    return tree


def test_the_picture_is_the_tree() -> None:
    bases = {each.__name__: each.__bases__[0].__name__ for each in CLASSES}
    bases["CatchmentError"] = None  # type: ignore[assignment]
    assert drawn() == bases


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_every_error_is_documented(error: type[CatchmentError]) -> None:
    assert re.search(rf"^\| `{error.__name__}` \|", DOCS.read_text(), re.MULTILINE)
    assert error.__doc__


def test_the_documentation_names_no_error_that_is_gone() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE))
    assert named == {each.__name__ for each in CLASSES}


def test_facts_are_attributes_and_the_message_is_a_sentence() -> None:
    field = errors.InvalidField("resource.cpu", "must be above 0")
    assert (field.field, field.problem, str(field)) == (
        "resource.cpu",
        "must be above 0",
        "resource.cpu: must be above 0",
    )
    offset = errors.OffsetMismatch(10, 3)
    assert (offset.offset, str(offset)) == (10, "the chunk begins at byte 3, 10 bytes are stored")
    digest = errors.DigestMismatch("sha256:a", "sha256:b")
    assert (digest.expected, digest.actual) == ("sha256:a", "sha256:b")
