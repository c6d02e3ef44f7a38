"""A job's log at the client: its lines, and the stream of server-sent events that they come in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.client.connection import Connection
from catchment.client.reading import reading
from catchment.errors import Unreachable


@dataclass(frozen=True)
class LogLine:
    """One line of a job's log.

    Attributes:
        at: RFC 3339.
        level: info, warning or error.
        source: "coordinator", or the site whose script printed it.
        run, round: what it is about; None: the job as a whole.
    """

    number: int
    at: str
    level: str
    source: str
    run: int | None
    round: int | None
    text: str
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, document: Any) -> LogLine:
        """The line of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("log line"):
            return cls(
                number=int(document["number"]),
                at=document["at"],
                level=document["level"],
                source=document["source"],
                run=document.get("run"),
                round=document.get("round"),
                text=document["text"],
                document=document,
            )


@dataclass(frozen=True)
class LogPage:
    """Lines, newest last, and the number to ask for lines after."""

    lines: tuple[LogLine, ...]
    next: int
    more: bool

    @classmethod
    def parse(cls, document: Any) -> LogPage:
        """The page of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("page of a log"):
            lines, following, more = document["lines"], int(document["next"]), bool(document["more"])
        return cls(tuple(LogLine.parse(line) for line in lines), following, more)


@dataclass(frozen=True)
class LogEnd:
    """No further line comes: the job rests in this state; None: it was deleted."""

    state: str | None
    reason: str


class EventStream:
    """Lines of a log as they are written. Iterate once; `abort` ends that from another thread.

    Attributes:
        after: number of the last line that was seen.
        connected: whether the server has answered.
    """

    def __init__(self, connection: Connection, path: str, after: int) -> None:
        self.after = after
        self.connected = False
        self._connection = connection
        self._path = path

    def __iter__(self) -> Iterator[LogLine | LogEnd]:
        """Lines, and a LogEnd as the last where the job rests.

        Raises:
            NotFound, Unauthorized, Refused: the server says so.
            Unreachable: it does not answer, or the stream broke off; begin a new one with `after`.
        """
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.after)}
        for name, data in _events(self._noted(self._connection.stream(self._path, headers))):
            if name == "line":
                line = LogLine.parse(data)
                self.after = line.number
                yield line
            elif name == "end":
                yield LogEnd(data.get("state"), data.get("reason") or "")
                return
        raise Unreachable(f"{self._connection.server} ended the stream; it may be restarting")

    def _noted(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        for line in lines:
            self.connected = True
            yield line

    def abort(self) -> None:
        """End the stream."""
        self._connection.abort()


def _events(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event; comments and the rest of the format are passed over."""
    name, data = "", b""
    for line in lines:
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").decode()
        elif line.startswith(b"data: "):
            data = line.removeprefix(b"data: ")
        elif not line and data:
            try:
                yield name, json.loads(data)
            except ValueError as error:
                raise Unreachable(f"the server's stream cannot be read: {error}") from None
            name, data = "", b""
