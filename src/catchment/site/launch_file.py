"""What the agent asks a keeper to start, and what the keeper tells of its end (standard library only)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from catchment.site.file_tree import Place
from catchment.site.limits import Limits
from catchment.site.sandbox import Sandbox

Ending = Literal["exited", "timed_out", "stopped", "memory", "processes", "not_isolated", "lost"]


@dataclass(frozen=True)
class Launch:
    """One script to run in `len(rank_env)` workers.

    Attributes:
        argv: the command line.
        script: absolute path of the Python file that argv[1] names, when argv is this interpreter, the file
            and its arguments: then a keeper with a loaded framework can run it itself. "" otherwise.
        cwd: folder that the script runs in.
        env: the whole environment, nothing is inherited.
        rank_env: what each worker has in its environment beside.
        timeout_s: seconds until the script counts as hung.
        grace_s: seconds between SIGTERM and SIGKILL.
        sandbox: what the script is kept from; None: nothing.
    """

    argv: tuple[str, ...]
    script: str
    cwd: str
    env: dict[str, str]
    rank_env: tuple[dict[str, str], ...]
    timeout_s: float
    limits: Limits
    grace_s: float = 3.0
    sandbox: Sandbox | None = None

    def to_json(self) -> bytes:
        """One line of JSON."""
        # Without dataclasses.asdict, which takes milliseconds to copy what a sandbox shows.
        return json.dumps(self, default=vars).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Launch:
        """The launch that `to_json` wrote."""
        values = json.loads(line)
        limits = values.pop("limits")
        limits["cores"] = tuple(limits["cores"])
        values["argv"] = tuple(values["argv"])
        values["rank_env"] = tuple(values["rank_env"])
        sandbox = values.pop("sandbox")
        if sandbox is not None:
            places = tuple(Place(**place) for place in sandbox.pop("places"))
            sandbox = Sandbox(places=places, **sandbox)
        return cls(limits=Limits(**limits), sandbox=sandbox, **values)


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Attributes:
        ending: "exited" by itself, or why it was killed; "lost" when its keeper vanished; "not_isolated"
            when its sandbox could not be set up, so that it never ran.
        code: exit code of the first worker that failed, else 0; negative: the signal that ended it.
        rank: the worker that `code` or `used_mb` is about.
        used_mb: memory in use when it was killed for that.
        seconds: from start to end.
        peak_mb: the most memory that the watch saw in one worker's tree.
        part, reason: of "not_isolated": what could not be had, and why.
    """

    ending: Ending
    code: int = 0
    rank: int = 0
    used_mb: int = 0
    seconds: float = 0.0
    peak_mb: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    part: str = ""
    reason: str = ""

    def to_json(self) -> bytes:
        """One line of JSON."""
        return json.dumps({"outcome": asdict(self)}).encode() + b"\n"
