"""Trying out isolation: a real sandbox around a small program that tries what it should not be able to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from catchment.site import environment
from catchment.site.file_tree import Place
from catchment.site.launch import Launcher
from catchment.site.launch_file import Launch, Outcome
from catchment.site.limits import Limits
from catchment.site.output import tail
from catchment.site.privileges import Identity
from catchment.site.sandbox import Sandbox
from catchment.site.view import read_only

PARTS = ("files", "network", "processes", "privileges", "user")

_TIMEOUT_S = 20.0
_MEMORY_MB = 500
_PROGRAM = """
import json, os, socket, sys
port, secret, data, task = int(sys.argv[1]), *sys.argv[2:]
def works(act):
    try:
        act()
    except OSError:
        return False
    return True
def own_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 2).close()
status = open("/proc/self/status").read()
print(json.dumps({
    "outside": works(lambda: socket.create_connection(("127.0.0.1", port), 2)),
    "loopback": works(own_loopback),
    "secret": works(lambda: open(secret).read()),
    "data": works(lambda: open(data).read()),
    "spoil": works(lambda: open(data, "a")),
    "write": works(lambda: open(task + "/x", "w")),
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "barred": "NoNewPrivs:\\t1" in status,
    "bounded": int(status.split("CapBnd:")[1].split()[0], 16) in (0, 4),
    "user": os.getuid(),
}))
"""


@dataclass(frozen=True)
class Trial:
    """What was found.

    Attributes:
        sandbox: with the parts that can be had.
        held: the parts that held when they were tried.
        missing: the other parts, and why.
    """

    sandbox: Sandbox
    held: tuple[str, ...]
    missing: dict[str, str]


def try_out(folder: Path, places: Iterable[Place]) -> Trial:
    """Set a sandbox up as for a script, and try to break out. Takes a fraction of a second.

    Args:
        folder: made, and removed again; the site's secrets would lie beside it.
        places: what every script sees, and what is hidden from it.
    """
    missing: dict[str, str] = {}
    box = Sandbox(user=True, files=True, network=True, processes=True, places=tuple(places))
    while True:
        outcome, seen, words = _attempt(folder, box)
        if outcome.ending != "not_isolated" and seen:
            break
        part, why = outcome.part, outcome.reason
        if outcome.ending != "not_isolated":
            part, why = "files" if box.files else "user", f"Python does not run inside: {words or outcome}"
        without = _without(box, part, why, missing)
        if without == box:  # not even without a sandbox: nothing can be promised, works will say the rest
            return Trial(box, (), dict.fromkeys(PARTS, f"it could not be tried out: {why}"))
        box = without
    _judge(box, seen, missing)
    if box.user and not Identity.of_this_process().own:
        missing["user"] = "the agent is not root: scripts keep its user, without any capability"
    return Trial(box, tuple(part for part in PARTS if part not in missing), missing)


def _without(box: Sandbox, part: str, why: str, missing: dict[str, str]) -> Sandbox:
    """The sandbox without a part that cannot be had, and without what depends on it."""
    if part == "user":
        why = f"no user namespace: {why}"
        missing.update({name: missing.get(name, why) for name in PARTS})
        return Sandbox(places=box.places)
    missing.setdefault(part, why)
    if part == "files":
        missing.setdefault("processes", "needs files to be isolated")
        return replace(box, files=False, processes=False)
    return replace(
        box, network=box.network and part != "network", processes=part != "processes" and box.processes
    )


def _judge(box: Sandbox, seen: dict[str, Any], missing: dict[str, str]) -> None:
    """Note the parts that were set up and did not hold."""
    held = {
        "files": seen["data"] and seen["write"] and not seen["secret"] and not seen["spoil"],
        "network": seen["loopback"] and not seen["outside"],
        "processes": seen["processes"] <= 3,
        "privileges": seen["barred"] and seen["bounded"],
        "user": seen["user"] != os.geteuid(),
    }
    for part, good in held.items():
        if not good:
            missing.setdefault(part, "it was set up, but did not hold when it was tried")


def _attempt(folder: Path, box: Sandbox) -> tuple[Outcome, dict[str, Any], str]:
    """Run the program in the sandbox: how it ended, what it saw, and its last words."""
    shutil.rmtree(folder, ignore_errors=True)
    task, data, secret = folder / "task", folder / "data", folder / "secret"
    try:
        (task / "tmp").mkdir(parents=True)
        data.write_text("data")
        secret.write_text("secret")
        places = (*box.places, Place(str(task), "write", str(task.resolve())), *read_only(data))
        with socket.create_server(("127.0.0.1", 0)) as server:
            arguments = (str(server.getsockname()[1]), str(secret), str(data), str(task))
            launch = Launch(
                argv=(sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments),
                script="",
                cwd=str(task),
                env=environment.public(os.environ),
                rank_env=({},),
                timeout_s=_TIMEOUT_S,
                limits=Limits(memory_mb=_MEMORY_MB, data_mb=0, file_mb=10, threads=1),
                sandbox=replace(box, places=places, base=str(task), shared_mb=1),
            )
            log = folder / "output.log"
            outcome = Launcher().start(launch, runtime="", log=log, log_bytes=100_000).wait()
        words = tail(log, 2000).strip()
        seen = json.loads(words) if outcome.ending == "exited" and not outcome.code else {}
        return outcome, seen, words.rpartition("\n")[2]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
