"""Which part of the data each simulated client has."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

from catchment.errors import InvalidField


class DataParts:
    """The parts of each data set: files or folders, dealt to the clients in turn.

    The client of index i (from 0) gets part i modulo the number of parts, in the order of their names. One
    part is therefore shared by all, and the script can divide it by `fl.task().site`'s number or its seed.
    """

    def __init__(self, patterns: Mapping[str, str]) -> None:
        """Args: patterns: name of the data set -> shell pattern of absolute paths.

        Raises:
            InvalidField: a pattern is not absolute, or fits nothing.
        """
        self._parts = {name: _found(name, pattern) for name, pattern in patterns.items()}

    def of(self, site: str, names: Iterable[str]) -> dict[str, str]:
        """Data set name -> path of this client's part, for the data sets that the job names.

        Raises:
            InvalidField: no parts were given for one of them.
        """
        index = int(site.rpartition("-")[2])
        chosen = {}
        for name in names:
            parts = self._parts.get(name)
            if parts is None:
                raise InvalidField("datasets", f"the job names {name!r}; say where its parts are")
            chosen[name] = parts[index % len(parts)]
        return chosen

    def check(self, names: Iterable[str]) -> None:
        """Pass when each data set of a job has parts.

        Raises:
            InvalidField: one has none.
        """
        self.of("-0", names)


def _found(name: str, pattern: str) -> list[str]:
    if not Path(pattern).is_absolute():
        raise InvalidField(f"datasets.{name}", f"{pattern!r} is no absolute path")
    parts = sorted(glob.glob(pattern))  # noqa: PTH207 - a pattern, not a folder
    if not parts:
        raise InvalidField(f"datasets.{name}", f"{pattern!r} fits no file or folder")
    return parts
