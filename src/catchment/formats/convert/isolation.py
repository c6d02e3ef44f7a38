"""Which parts of the sandbox this host gives to conversions: tried out once, then used for each child."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from catchment.errors import ConversionFailed
from catchment.site import view
from catchment.site.file_tree import Place
from catchment.site.isolation_trial import try_out
from catchment.site.sandbox import Sandbox

NEEDED = ("files", "network", "privileges")
"""What must hold before a file is opened that executes code by design (a pickle)."""


@dataclass(frozen=True)
class Isolation:
    """What holds here.

    Attributes:
        pattern: a sandbox without the places of a job; None: nothing is isolated.
        missing: parts that this host does not give, and why.
    """

    pattern: Sandbox | None
    missing: dict[str, str]

    @classmethod
    def tried_out(cls, folder: Path) -> Isolation:
        """Set a sandbox up and try to break out of it; takes a fraction of a second.

        Args:
            folder: writable; what is made there is removed again.
        """
        # Not what this process imports from besides: a checkout, say.
        prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
        places = tuple(view.system(*dict.fromkeys(prefixes), str(Path(sys.executable).resolve().parent)))
        trial = try_out(folder / f"trial-{secrets.token_hex(4)}", places)
        return cls(replace(trial.sandbox, places=places), trial.missing)

    def box(self, places: Iterable[Place], base: str, shared_mb: int) -> Sandbox | None:
        """The sandbox of one child, which sees these places beside the machine's programs."""
        if self.pattern is None:
            return None
        return replace(self.pattern, places=(*self.pattern.places, *places), base=base, shared_mb=shared_mb)

    def require(self, what: str) -> None:
        """Raises ConversionFailed where this host cannot confine what executes code by design."""
        if self.pattern is None:
            raise ConversionFailed(f"{what} executes code when it is opened, and isolation is switched off")
        lacking = [f"{part} ({self.missing[part]})" for part in NEEDED if part in self.missing]
        if lacking:
            raise ConversionFailed(
                f"{what} executes code when it is opened, and this host does not isolate {', '.join(lacking)}"
            )
