"""Versions side by side: what each says of itself, as JSON or as a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from catchment.catalog import describing, rows
from catchment.catalog.spec import check_name, check_version
from catchment.catalog.states import ModelState
from catchment.errors import InvalidField
from catchment.models.config import ModelConfig
from catchment.store import Store
from catchment.store.database import Transaction

MOST = 100
"""So many versions are compared at once."""


@dataclass(frozen=True)
class Named:
    """A version as comparisons name it."""

    project: str
    name: str
    tag: str

    @property
    def path(self) -> str:
        """`project/name:tag`."""
        return f"{self.project}/{self.name}:{self.tag}"


def named(body: object, texts: list[str]) -> list[Named]:
    """The versions that a request names.

    Args:
        body: the original's JSON, `{"models": [{"name", "project", "tag"}]}`; None for none.
        texts: `project/name:tag` each, for clients that send no body with a GET.

    Raises:
        InvalidField: it names none, too many, or one in a wrong way.
    """
    given = body.get("models") if isinstance(body, dict) else None
    if body is not None and not isinstance(given, list):
        raise InvalidField("models", 'must be a list of {"name", "project", "tag"}')
    found = [_from_tree(index, each) for index, each in enumerate(given or [])]
    found += [_from_text(text) for text in texts]
    if not 0 < len(found) <= MOST:
        raise InvalidField("models", f"must name 1 to {MOST} versions, not {len(found)}")
    return found


def _from_tree(index: int, each: object) -> Named:
    where = f"models.{index}"
    if not isinstance(each, dict) or not all(
        isinstance(each.get(key), str) for key in ("name", "project", "tag")
    ):
        raise InvalidField(where, "must hold name, project and tag, each a text")
    return Named(
        each["project"], check_name(each["name"], f"{where}.name"), check_version(each["tag"], f"{where}.tag")
    )


def _from_text(text: str) -> Named:
    project, slash, rest = text.partition("/")
    name, colon, tag = rest.rpartition(":")
    if not (project and slash and colon):
        raise InvalidField("model", f"{text[:100]!r} must be project/name:tag")
    return Named(project, check_name(name, "model"), check_version(tag, "model"))


def compare(store: Store, wanted: list[Named]) -> list[tuple[Named, ModelConfig]]:
    """What the ready ones among the versions say of themselves, in order; others are left out."""

    def step(tx: Transaction) -> list[tuple[Named, Row[Any]]]:
        found = [(each, rows.find(tx, each.project, each.name, each.tag)) for each in wanted]
        return [(each, row) for each, row in found if row is not None and row.state == ModelState.READY]

    return [(each, describing.config_of(row)) for each, row in store.db.read(step)]


def as_csv(found: list[tuple[Named, ModelConfig]]) -> bytes:
    """The original's table: a column for each version, UTF-8 with a mark that spreadsheets look for."""
    lines = {
        "Basic Info": ["" for _ in found],
        "Model Name": [each.path for each, _ in found],
        "Model Source": [config.author for _, config in found],
        "Model Framework": [config.framework for _, config in found],
        "Model Format": [config.format for _, config in found],
        "Model Inputs": [_tensors(config, "inputs") for _, config in found],
        "Model Outputs": [_tensors(config, "outputs") for _, config in found],
    }
    text = io.StringIO()
    writer = csv.writer(text)
    for name, values in lines.items():
        writer.writerow([name, *(_harmless(value) for value in values)])
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _tensors(config: ModelConfig, which: str) -> str:
    tensors = config.written().get("signature", {}).get(which)
    return json.dumps(tensors, indent="\t", ensure_ascii=False) if tensors else "-"


def _harmless(value: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if value[:1] in ("=", "+", "@", "\t", "\r") or value[:1] == "-" != value else value
