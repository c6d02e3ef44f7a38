"""The sandbox of one script: new namespaces around its workers (standard library only: keepers import it).

The keeper calls `enter` and stays outside of the new file tree and the new process tree, so that it can
watch and kill as ever. A process called the host is number 1 of the new process tree and builds the file
tree; each worker then moves in with `Room.join`.

```text
keeper ── new user, network, IPC namespace; its next children are in a new process tree
  ├─ host      number 1: builds the file tree in a mount namespace, then waits for the keeper's end
  └─ worker…   join the mount namespace, become the script's user, drop capabilities, run the script
```
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from catchment.errors import SiteError
from catchment.site import file_tree, namespaces, privileges, processes
from catchment.site.file_tree import Place
from catchment.site.privileges import SCRIPT_ID, Identity

Part = Literal["user", "network", "processes", "files"]

_PR_SET_PDEATHSIG = 1
_WRITE_MAPS = """
read go || exit
printf '%s' "$2" > "/proc/$1/uid_map" && printf '%s' "$3" > "/proc/$1/gid_map" && echo ok
"""


@dataclass(frozen=True)
class Sandbox:
    """What one script is to be kept from.

    Attributes:
        user: a user namespace; without one nothing else is possible, save that no privilege is regained.
        files: it sees the places and nothing else.
        network: it has a network of its own, with nothing in it but 127.0.0.1.
        processes: it sees its own processes only; needs `files`.
        places: the files that it sees.
        base: an empty or harmless folder that the new tree is first mounted on.
        shared_mb: size of its /dev/shm.
    """

    user: bool = False
    files: bool = False
    network: bool = False
    processes: bool = False
    places: tuple[Place, ...] = ()
    base: str = ""
    shared_mb: int = 0


class CannotIsolateError(SiteError):
    """One part of the sandbox cannot be had here."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


@contextmanager
def _needed_for(part: Part) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotIsolateError(part, error.strerror or str(error)) from error


@dataclass(frozen=True)
class Room:
    """A sandbox that is set up, with the keeper at its door.

    Attributes:
        host: id of the process that holds it, 0 when there is none; not one of the script's.
        mounts: descriptor of its mount namespace, -1 when it has none.
        door: the host ends when this socket closes.
    """

    identity: Identity | None
    host: int = 0
    mounts: int = -1
    door: socket.socket | None = None

    def join(self) -> None:
        """Move this process, a fresh fork, in for good.

        Raises:
            OSError: it did not work; the script must not run then.
        """
        if self.mounts >= 0:
            namespaces.enter(self.mounts, namespaces.NEW_MOUNTS)
        privileges.drop(self.identity)


def enter(box: Sandbox) -> Room:
    """Set the sandbox up around the children that this process will fork.

    Raises:
        CannotIsolateError: names the part that cannot be had.
    """
    if not box.user:
        return Room(None)
    with _needed_for("user"):
        identity = Identity.of_this_process()
        _new_user_namespace(identity)
    if box.network:
        with _needed_for("network"):
            namespaces.unshare(namespaces.NEW_NETWORK | namespaces.NEW_HOSTNAME)
            namespaces.set_hostname("localhost")  # what a library looks up to find its own address
            namespaces.raise_loopback()
    if box.processes:
        with _needed_for("processes"):
            namespaces.unshare(namespaces.NEW_PIDS | namespaces.NEW_IPC)
    return _with_host(box, identity) if box.files else Room(identity)


def _new_user_namespace(identity: Identity) -> None:
    """Enter a user namespace with the identity's maps."""
    if not identity.own:
        namespaces.unshare(namespaces.NEW_USER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(identity.user_map)
        Path("/proc/self/gid_map").write_text(identity.group_map)
        return
    # Only a process outside, with root's rights, may map more than the own id. A shell is started in a
    # tenth of the time that a copy of this process takes, which may have a framework loaded.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), number) for number in (0, 1)]
        arguments = ("sh", "-c", _WRITE_MAPS, "sh", str(os.getpid()), identity.user_map, identity.group_map)
        pid = os.posix_spawn("/bin/sh", arguments, {}, file_actions=actions)
        theirs.close()
        try:
            namespaces.unshare(namespaces.NEW_USER)
            ours.sendall(b"go\n")
            answer = ours.recv(10)
        finally:
            ours.close()
            os.waitpid(pid, 0)
    if answer != b"ok\n":
        raise OSError(errno.EPERM, "user and group ids cannot be mapped")


def _with_host(box: Sandbox, identity: Identity) -> Room:
    door, inside = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        door.close()
        _end_after(lambda: _be_host(inside, box, identity))
    inside.close()
    answer = door.recv(4096).decode(errors="replace")
    if answer != "ok":
        door.close()
        os.waitpid(pid, 0)
        part, _, reason = answer.partition("\n")
        raise CannotIsolateError(part or "files", reason or "the process that builds the file tree ended")
    with _needed_for("files"):
        mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    return Room(identity, pid, mounts, door)


def _be_host(inside: socket.socket, box: Sandbox, identity: Identity) -> None:
    """Build the file tree, then be the parent of orphans until the keeper ends."""
    os.setsid()
    # The kernel buries the orphans; and number 1 of a process tree hears only what it asks for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    processes.prctl(
        _PR_SET_PDEATHSIG, signal.SIGKILL
    )  # with the keeper it goes, and with it everything inside
    os.closerange(3, inside.fileno())
    os.closerange(inside.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    try:
        with _needed_for("files"):
            file_tree.begin(box.base)
            covers = file_tree.place_all(box.places, SCRIPT_ID if identity.own else None)
            file_tree.add_shared_memory(box.shared_mb)
        with _needed_for("processes"):
            file_tree.add_processes(own=box.processes)
        with _needed_for("files"):
            file_tree.finish(covers)
    except CannotIsolateError as error:
        inside.sendall(f"{error.part}\n{error.reason}".encode()[:4096])
        return
    inside.sendall(b"ok")
    inside.recv(1)  # nothing is ever sent: this is the end of the keeper


def _end_after(act: Callable[[], None]) -> NoReturn:
    """Do one thing in a fresh fork and end, without unwinding what belongs to the parent."""
    try:
        act()
    finally:
        os._exit(0)
