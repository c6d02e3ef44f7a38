"""What the end of a script means, in words."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from catchment.errors import ScriptFailed
from catchment.site import limits
from catchment.site.launch_file import Launch, Outcome
from catchment.site.output import tail


def check_ended_well(outcome: Outcome, script: str, launch: Launch, log: Path) -> None:
    """Pass when the script ended well.

    Raises:
        ScriptFailed: with the reason in words.
    """
    who = script if len(launch.rank_env) == 1 else f"{script} (worker {outcome.rank})"
    if outcome.ending == "timed_out":
        raise ScriptFailed(f"{script} hung past its time of {launch.timeout_s:.0f} s and was killed")
    if outcome.ending == "memory":
        allowed = launch.limits.memory_mb
        raise ScriptFailed(f"{who} used {outcome.used_mb} MB of {allowed} MB allowed and was killed")
    if outcome.ending == "processes":
        raise ScriptFailed(f"{who} started more than {limits.MAX_PROCESSES} processes and was killed")
    if outcome.ending == "not_isolated":
        raise ScriptFailed(
            f"{script} was not started: it cannot be isolated now ({outcome.part}: {outcome.reason})"
        )
    if outcome.ending != "exited":
        raise ScriptFailed(f"{script} was killed together with the process that watches over it")
    if outcome.code < 0:
        raise ScriptFailed(f"{who} was killed by {_signal_name(-outcome.code)}")
    if outcome.code > 0:
        raise ScriptFailed(
            f"{who} ended with exit code {outcome.code}{_last_words(tail(log, 2000).split(chr(10)))}"
        )


def _last_words(lines: Sequence[str]) -> str:
    """The last line that a script printed, usually its exception, as the end of a sentence."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last[:500]}" if last else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
