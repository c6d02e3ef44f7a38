"""Spans of what the system does, in traces that every process finds without asking.

A trace belongs to what it follows: a job, a ModelJob, a serving. Its id, and the ids of the spans that
others hang theirs below, are digests of names that all processes know (docs/adr/0029). So nothing is
stored, and a run that is resumed goes on in its trace. While tracing is off a span costs next to nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

Attribute = str | int | float | bool
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """A span as others name it: its trace and its id, in hexadecimal digits."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        """W3C's word for it, sampled."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def below(self, *names: object) -> Place:
        """The place of a span of the same trace that is known by these names."""
        return Place(self.trace_id, _digest(self.trace_id, *names)[:16])


def read(traceparent: str | None) -> Place | None:
    """The place that a traceparent names; None where there is none, or it makes no sense.

    Of another version than 00, or not sampled, it names nothing that we would add to.
    """
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None or not set(found[1]) - {"0"} or not set(found[2]) - {"0"} or not int(found[3], 16) & 1:
        return None
    return Place(found[1], found[2])


def of(uid: str) -> Place:
    """The first span of what has this uid: of a job, its creation. Of a rollout, the uid is `subject`'s."""
    digest = _digest("catchment", uid)
    return Place(digest[:32], digest[32:48])


def subject(serving_uid: str, number: int) -> str:
    """What a rollout of a serving is called in traces: each is one of its own."""
    return f"{serving_uid}/{number}"


def of_flow(uid: str, flow_run_id: str) -> Place:
    """The span of a flow run of a job; a resumed run is the same one."""
    return of(uid).below("flow", flow_run_id)


def of_round(uid: str, run: int, number: int) -> Place:
    """The span of a round of a job."""
    return of(uid).below("round", run, number)


def _digest(*names: object) -> str:
    return hashlib.sha256("\0".join(map(str, names)).encode()).hexdigest()


@dataclass(frozen=True)
class Finished:
    """A span that is over, for whoever passes spans on. Times are nanoseconds since the epoch."""

    name: str
    place: Place
    parent: Place | None
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Attribute]
    error: str = ""
    link: Place | None = None
    kind: str = "internal"


class Sink(Protocol):
    """Where finished spans go."""

    def take(self, span: Finished) -> None:
        """Pass one on, without waiting for anybody."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was taken is sent, or for so long."""


class Span:
    """A span under way; `with` makes it the one that others are begun in."""

    __slots__ = (
        "_attributes",
        "_began_ns",
        "_dropped",
        "_kind",
        "_link",
        "_name",
        "_sink",
        "_token",
        "parent",
        "place",
    )

    def __init__(
        self,
        sink: Sink,
        name: str,
        place: Place,
        parent: Place | None,
        attributes: dict[str, Attribute],
        *,
        link: Place | None = None,
        kind: str = "internal",
    ) -> None:
        self._sink = sink
        self._name = name
        self.place = place
        self.parent = parent
        self._attributes = attributes
        self._link = link
        self._kind = kind
        self._began_ns = time.time_ns()
        self._token: Token[Place | None] | None = None
        self._dropped = False

    recorded = True

    def note(self, **attributes: Attribute) -> None:
        """Say something more of it."""
        self._attributes.update(_named(attributes))

    def renamed(self, name: str) -> None:
        """Call it otherwise: what it turned out to be."""
        self._name = name

    def drop(self) -> None:
        """Do not record it: it goes on, in another process, which will."""
        self._dropped = True

    def began(self, at_s: float | None) -> None:
        """It began earlier than here, at so many seconds since the epoch; None: it did not."""
        if at_s is not None:
            self._began_ns = min(self._began_ns, int(at_s * NS))

    def __enter__(self) -> Self:
        self._token = _current.set(self.place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        if self._dropped:
            return
        # Its kind and not its words: those may hold data.
        failed = type(error).__name__ if error is not None else ""
        self._sink.take(
            Finished(
                self._name,
                self.place,
                self.parent,
                self._began_ns,
                time.time_ns(),
                self._attributes,
                failed,
                self._link,
                self._kind,
            )
        )


class Nothing:
    """The span of a process that does not trace."""

    __slots__ = ()
    recorded = False

    def note(self, **attributes: Attribute) -> None:
        """Nothing."""

    def renamed(self, name: str) -> None:
        """Nothing."""

    def drop(self) -> None:
        """Nothing."""

    def began(self, at_s: float | None) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@dataclass
class _Tracer:
    """What this process does with spans."""

    sink: Sink | None = None


NOTHING = Nothing()
_tracer = _Tracer()
_current: ContextVar[Place | None] = ContextVar("span", default=None)


def send_to(sink: Sink | None) -> Sink | None:
    """Let the process's spans go there from now on; None: nowhere. What they went to before."""
    before, _tracer.sink = _tracer.sink, sink
    return before


def is_on() -> bool:
    """Whether this process traces."""
    return _tracer.sink is not None


def flush(timeout_s: float) -> None:
    """Send what is left, for so long at most; before the process ends."""
    if _tracer.sink is not None:
        _tracer.sink.flush(timeout_s)


def span(
    name: str,
    *,
    job: str | None = None,
    place: Place | None = None,
    parent: Place | None = None,
    link: Place | None = None,
    kind: str = "internal",
    **attributes: Attribute,
) -> Span | Nothing:
    """A span for a `with` block, below the one around it; attributes appear as `catchment.<name>`.

    Put no secret and no data into them: names, numbers and ids only.

    Args:
        name: what is done, of few different words.
        job: uid of the job, ModelJob or serving whose trace it belongs to; that of the span around it when
            left out.
        place: where it is known to be; drawn when left out.
        parent: the span that it is below, instead of the one around it.
        link: a span of another trace that has to do with it.
        kind: "internal", "server" or "client".
        **attributes: of the span.
    """
    sink = _tracer.sink
    if sink is None:
        return NOTHING
    around, home = _current.get(), place or (of(job) if job is not None else None)
    if parent is None and around is not None and home is not None and around.trace_id != home.trace_id:
        link = link or around  # what asked for it has a trace of its own
    elif parent is None and around is not None:
        parent = around
    if parent is None and place is None:
        parent = home
    if place is None:
        place = Place(parent.trace_id if parent else random_hex(16), random_hex(8))
    return Span(sink, name, place, parent, _named(attributes), link=link, kind=kind)


def current() -> Place | None:
    """The span around what runs now."""
    return _current.get() if _tracer.sink is not None else None


def current_trace_id() -> str | None:
    """The trace of what runs now."""
    place = current()
    return place.trace_id if place is not None else None


class within:  # noqa: N801 - reads as a word of the language
    """Make a span that somebody else records the one around a block. None: nothing is done."""

    def __init__(self, place: Place | None) -> None:
        self._place = place
        self._token: Token[Place | None] | None = None

    def __enter__(self) -> Self:
        if self._place is not None and _tracer.sink is not None:
            self._token = _current.set(self._place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)


def random_hex(count: int) -> str:
    """Bytes that no other span has, as hexadecimal digits; not for secrets."""
    return os.urandom(count).hex()


def _named(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {f"catchment.{name}": value for name, value in attributes.items()}
