"""What a site lets be done: which sent code it runs, which data sets it gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catchment.errors import PolicyRefused, SiteError

AllowScripts = Literal["never", "listed", "always"]
IsolationMode = Literal["auto", "require", "off"]


@dataclass(frozen=True)
class Policy:
    """The site's own rules, which no coordinator can change.

    Attributes:
        allow_scripts: whether code that a coordinator sends is run.
        listed: digests (`sha256:...`) of the archives that are run under "listed".
    """

    allow_scripts: AllowScripts = "never"
    listed: frozenset[str] = frozenset()

    def check_scripts(self, digest: str) -> None:
        """Pass when the archive of that digest may run.

        Raises:
            PolicyRefused: it may not; says what the site's people can do about it.
        """
        if self.allow_scripts == "always" or (self.allow_scripts == "listed" and digest in self.listed):
            return
        if self.allow_scripts == "listed":
            raise PolicyRefused(
                f"this site runs only sent scripts that it lists, and {digest} is not listed; after a "
                "review, add the digest to the file of --allowed-scripts"
            )
        raise PolicyRefused(
            "this site runs no sent scripts; use a task_entry of the site, or ask its people to start the "
            "agent with --allow-scripts listed or always"
        )


def chosen_datasets(wanted: Iterable[str], known: Mapping[str, Path]) -> dict[str, str]:
    """Absolute paths of the data sets that a job names.

    Raises:
        SiteError: the site has no such data set, or its path is gone.
    """
    chosen = {}
    for name in wanted:
        if name not in known:
            raise SiteError(
                f"this site has no data set {name!r}; it has: {', '.join(sorted(known)) or 'none'}"
            )
        if not known[name].exists():
            raise SiteError(f"the path of the data set {name!r} is not there now")
        chosen[name] = str(known[name])
    return chosen
