"""Isolation of scripts as the agent decides it: tried out once, reported, and made up for each work."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from catchment.errors import PolicyRefused
from catchment.site import view
from catchment.site.config import SiteConfig
from catchment.site.file_tree import Place
from catchment.site.home import Home
from catchment.site.isolation_trial import PARTS, try_out
from catchment.site.sandbox import Sandbox
from catchment.site.work import Work
from catchment.wire.messages import Isolation
from catchment.wire.task import CLIENT_STATE, STATE, WEIGHTS

logger = logging.getLogger(__name__)

_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - each sandbox has its own
_FIXED = ("task.json", WEIGHTS, STATE, CLIENT_STATE)
"""Files of the task folder that a script reads only."""
_NEEDED = ("files", "network", "processes", "privileges")
"""What "require" insists on. A user of its own needs an agent that is root, which few sites want."""


@dataclass(frozen=True)
class Isolator:
    """What this host allows. `sandbox_for` is safe to call from several threads.

    Attributes:
        report: for the registration; None when this site isolates nothing.
        pattern: a sandbox without the places of one work.
    """

    report: Isolation | None = None
    pattern: Sandbox | None = None
    isolates_entries: bool = False

    @classmethod
    def tried_out(cls, config: SiteConfig, home: Home) -> Isolator:
        """Try out what works here, and say so in the log.

        Raises:
            OSError: the home folder cannot be written.
        """
        if not config.may_isolate:
            report = Isolation(mode="off", missing=dict.fromkeys(PARTS, "switched off: --isolation off"))
            return cls(report if config.isolation == "off" else None)
        places = (
            *view.machine(config.visible),
            *(Place(str(path), "hidden") for path in _hidden(config, home)),
        )
        trial = try_out(home.folder / "trial", places)
        report = Isolation(
            mode=config.isolation,
            entries=config.isolate_entries,
            missing=trial.missing,
            **dict.fromkeys(trial.held, True),
        )
        _say(report)
        return cls(report, replace(trial.sandbox, places=places), config.isolate_entries)

    def applies_to(self, work: Work) -> bool:
        """Whether a script of this work is isolated."""
        sent = work.order.scripts is not None
        return self.pattern is not None and (sent or self.isolates_entries)

    def temporary_folder(self, work: Work) -> str:
        """What the work's script knows its temporary folder by.

        In a file tree of its own that is /tmp: the sockets that multiprocessing makes there must have short
        paths, and a home folder may lie deep.
        """
        in_own_tree = self.pattern is not None and self.pattern.files and self.applies_to(work)
        return _TEMPORARY[0] if in_own_tree else str(work.task_folder / "tmp")

    def sandbox_for(
        self, work: Work, folder: Path, datasets: Iterable[str], memory_mb: int
    ) -> Sandbox | None:
        """The sandbox of a work's script; None when it is not isolated.

        Args:
            work: its task folder is prepared.
            folder: of the scripts; writable where they were sent for this work alone.
            datasets: absolute paths that the script may read.
            memory_mb: what one worker may use.

        Raises:
            PolicyRefused: the site requires what this host does not give.
        """
        if self.pattern is None or not self.applies_to(work):
            return None
        self.check_required()
        sent = work.folder / "scripts"
        places = [*self.pattern.places]
        for path in datasets:
            places += view.read_only(path)
        places += [_writable(sent)] if folder.is_relative_to(sent) else view.read_only(folder)
        task = work.task_folder
        places += [_writable(task), *(Place(path, "write", str(task / "tmp")) for path in _TEMPORARY)]
        places += [place for name in _FIXED for place in view.read_only(task / name)]
        return replace(self.pattern, places=tuple(places), base=str(task), shared_mb=memory_mb)

    def check_required(self) -> None:
        """Pass unless this site requires what it does not have. Raises PolicyRefused."""
        report = self.report
        if report is None or report.mode != "require":
            return
        lacking = [f"{part} ({report.missing[part]})" for part in _NEEDED if part in report.missing]
        if lacking:
            raise PolicyRefused(
                "this site runs scripts only where it can isolate them (--isolation require), and this host "
                f"does not allow: {'; '.join(lacking)}"
            )


def _hidden(config: SiteConfig, home: Home) -> list[Path]:
    """What no script may see, also where it lies in a folder that is shown."""
    return [path for given in (home.folder, *config.secrets) for path in {given.absolute(), given.resolve()}]


def _writable(path: Path) -> Place:
    return Place(str(path), "write", str(path.resolve()))


def _say(report: Isolation) -> None:
    held = ",".join(part for part in PARTS if part not in report.missing) or "nothing"
    missing = "; ".join(f"{part}: {why}" for part, why in report.missing.items())
    level = logging.WARNING if any(part in report.missing for part in _NEEDED) else logging.INFO
    logger.log(level, "isolation of scripts mode=%s enforced=%s missing=%r", report.mode, held, missing)
