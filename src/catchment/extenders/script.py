"""The script of a job's extenders: where it is, whether it can be used, and how it is packed for a start."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

from catchment.errors import InvalidField, PathRefused
from catchment.jobs.spec import Extenders
from catchment.store import Store
from catchment.store.files import plain_path

_FIELD = "extenders.script_path"


class Packed(BaseModel):
    """A start's extenders in the store, so that nothing changes under a run.

    Attributes:
        archive: digest of a zip of the script's folder.
        entry: the script's path in it.
        starts: number of the job's start that packed it.
    """

    model_config = ConfigDict(frozen=True)

    archive: str
    entry: str
    starts: int


@dataclass(frozen=True)
class Located:
    """A script in a namespace's folder.

    Attributes:
        folder: the folder that is packed; "" for a script that is a file alone.
        path: the script's path.
        entry: its path in the archive.
    """

    folder: str
    path: str
    entry: str


def locate(store: Store, namespace: str, extenders: Extenders) -> Located:
    """The script of extenders whose script_path is given: a Python file, or a folder with `entry` in it.

    Raises:
        InvalidField: there is no such file, or it lies outside of the namespace's folder.
    """
    path, entry = str(plain_path(extenders.script_path or "", _FIELD)), extenders.entry
    if _is_file(store, namespace, path, _FIELD):
        if not path.endswith(".py"):
            raise InvalidField(_FIELD, f"{path!r} is no Python file; its name must end in .py")
        name = PurePosixPath(path).name
        if entry and entry != name:
            raise InvalidField("extenders.entry", f"is {entry!r}, but script_path names the file {name!r}")
        return Located("", path, name)
    if not entry:
        raise InvalidField(
            _FIELD if path.endswith(".py") else "extenders.entry",
            f"there is no file {path!r} in the folder of namespace {namespace!r}; "
            "for a folder, entry names the Python file in it",
        )
    inner = str(plain_path(entry, "extenders.entry"))
    if not inner.endswith(".py") or not _is_file(store, namespace, f"{path}/{inner}", "extenders.entry"):
        raise InvalidField(
            "extenders.entry",
            f"there is no Python file {inner!r} in the folder {path!r} of namespace {namespace!r}",
        )
    return Located(path, f"{path}/{inner}", inner)


def check(store: Store, namespace: str, extenders: Extenders) -> None:
    """Pass when the script is there, is Python, and defines the functions; it is not run.

    Raises:
        InvalidField: names the field that is wrong.
    """
    if not extenders.functions:
        return
    found = locate(store, namespace, extenders)
    limit = store.settings.max_scripts_bytes
    with store.files.fetched(namespace, found.path) as file:
        if file.stat().st_size > limit:
            raise InvalidField(_FIELD, f"{found.path!r} is larger than {limit} bytes")
        source = file.read_bytes()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        problem = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise InvalidField(_FIELD, f"{found.path!r} is no Python{where}: {problem}") from error
    names = set(_bound(tree.body))
    for step, name in extenders.functions.items():
        if name not in names and "*" not in names:
            raise InvalidField(f"extenders.{step}", f"{found.path!r} defines no function {name!r}")


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that a module's statements bind when it is imported; "*" for an import of everything."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.split(".")[0] for alias in aliases)
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                yield from _bound([*inner, *other])
                if isinstance(statement, ast.Try):
                    yield from _bound([line for handler in statement.handlers for line in handler.body])
            case ast.With(body=inner):
                yield from _bound(inner)


def _is_file(store: Store, namespace: str, path: str, field: str) -> bool:
    try:
        return store.files.is_file(namespace, path)
    except PathRefused as error:
        raise InvalidField(field, str(error)) from error
