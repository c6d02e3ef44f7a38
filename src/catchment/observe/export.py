"""Spans on their way to an OpenTelemetry collector, over OTLP/HTTP (the extra `observe`).

The packages are imported where an endpoint is named, in the process that has a span to send, and
after it was forked: the sender has a thread.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import catchment
from catchment.errors import SetupError
from catchment.observe import trace
from catchment.observe.trace import Finished

log = logging.getLogger(__name__)
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
EXPORT_S = 5.0
"""A collector that does not answer for so long has lost what it was sent."""
END_S = 2.0
"""A process that ends waits so long for its last spans."""


def configure(part: str, endpoint: str = "", environment: Mapping[str, str] | None = None) -> bool:
    """Let this process, and those that it forks, trace if a collector is named; whether they do.

    Args:
        part: what process it is, the service's name in traces: "api", "flow", "site".
        endpoint: base address of a collector; empty: as OpenTelemetry's own variables say.
        environment: where those are; the process's when left out.

    Raises:
        SetupError: the address is none, or the packages are not installed.
    """
    environment = os.environ if environment is None else environment
    url = address(endpoint, environment)
    if not url or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    import importlib.util

    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise SetupError(
            f"traces are to go to {urlsplit(url).hostname}, but OpenTelemetry is not installed: "
            "pip install 'catchment[observe]', or name no endpoint"
        )
    trace.send_to(Exporter(part, url, environment))
    return True


def address(endpoint: str, environment: Mapping[str, str]) -> str:
    """Where spans are sent; "" for nowhere.

    Raises:
        SetupError: it is no http(s) address.
    """
    url = endpoint or environment.get(ENDPOINT, "")
    url = f"{url.rstrip('/')}/v1/traces" if url else ""
    if not endpoint:
        url = environment.get(TRACES, "") or url
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None):
        named = "CATCHMENT_OTLP_ENDPOINT" if endpoint else f"{ENDPOINT} or {TRACES}"
        raise SetupError(f"{named} must be http(s)://host:port without a login in it")
    return url


class Exporter:
    """Sends spans from a thread that starts with the first of them; in a forked child with its first.

    Args:
        part: the service is called catchment-<part>.
        url: of the collector.
        environment: of OpenTelemetry's other variables.
    """

    def __init__(self, part: str, url: str, environment: Mapping[str, str]) -> None:
        self._part = part
        self._url = url
        self._sampler = environment.get("OTEL_TRACES_SAMPLER", "always_on")
        self._ratio = environment.get("OTEL_TRACES_SAMPLER_ARG", "1")
        self._lock = threading.Lock()
        self._pipe: tuple[int, _Pipe] | None = None

    def take(self, span: Finished) -> None:
        """Pass one on."""
        self._own().take(span)

    def flush(self, timeout_s: float) -> None:
        """Wait until all is sent, or for so long."""
        pipe = self._pipe
        if pipe is not None and pipe[0] == os.getpid():
            pipe[1].flush(timeout_s)

    def _own(self) -> _Pipe:
        pid = os.getpid()
        pipe = self._pipe
        if pipe is not None and pipe[0] == pid:
            return pipe[1]
        if pipe is not None:
            self._lock = threading.Lock()  # another thread of the parent may have held it
        with self._lock:
            if self._pipe is None or self._pipe[0] != pid:
                made = _Pipe(self._part, self._url, self._sampler, self._ratio)
                atexit.register(made.flush, END_S)
                self._pipe = pid, made
            return self._pipe[1]


class _Pipe:
    """OpenTelemetry's own tracer, told each span when it is over, with the ids that we gave it."""

    def __init__(self, part: str, url: str, sampler: str, ratio: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._ids = _given_ids()
        names = {"service.name": f"catchment-{part}", "service.version": catchment.__version__}
        self._provider = TracerProvider(
            sampler=_sampler(sampler, ratio),
            resource=Resource.create(names),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(url, timeout=EXPORT_S), schedule_delay_millis=1000)
        )
        self._tracer = self._provider.get_tracer("catchment", catchment.__version__)

    def take(self, span: Finished) -> None:
        """Begin it again and end it at once, at the times that it had."""
        from opentelemetry.trace import Link, SpanKind, Status, StatusCode

        around = _context(span.parent)
        with self._ids.given(span.place):
            told = self._tracer.start_span(
                span.name,
                context=around,
                kind=SpanKind[span.kind.upper()],
                attributes=dict(span.attributes),
                links=[Link(_named(span.link))] if span.link else (),
                start_time=span.began_ns,
            )
        if span.error:
            told.set_status(Status(StatusCode.ERROR, span.error))
        told.end(span.ended_ns)

    def flush(self, timeout_s: float) -> None:
        """Wait until all is sent, or for so long."""
        waiting = threading.Thread(
            target=self._provider.force_flush, args=(int(timeout_s * 1000),), daemon=True
        )
        waiting.start()
        waiting.join(timeout_s)


def _named(place: trace.Place) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), True, TraceFlags(TraceFlags.SAMPLED))


def _context(parent: trace.Place | None) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return Context() if parent is None else set_span_in_context(NonRecordingSpan(_named(parent)), Context())


def _given_ids() -> Any:
    """A source of ids that gives those of the span that is being told."""
    import contextlib
    from collections.abc import Iterator

    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Given(IdGenerator):
        """One span at a time, each thread for itself."""

        def __init__(self) -> None:
            self._own = threading.local()

        @contextlib.contextmanager
        def given(self, place: trace.Place) -> Iterator[None]:
            self._own.place = place
            yield

        def generate_span_id(self) -> int:
            return int(self._own.place.span_id, 16)

        def generate_trace_id(self) -> int:
            return int(self._own.place.trace_id, 16)

    return Given()


def _sampler(name: str, ratio: str) -> Any:
    """By the trace's id, whoever began it: all processes decide alike.

    Raises:
        SetupError: OTEL_TRACES_SAMPLER or its argument is none that is known here.
    """
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, TraceIdRatioBased

    plain = name.removeprefix("parentbased_")
    if plain == "traceidratio":
        try:
            return TraceIdRatioBased(float(ratio))
        except ValueError:
            raise SetupError(f"OTEL_TRACES_SAMPLER_ARG is {ratio!r}, it must be from 0 to 1") from None
    known = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF}
    if plain not in known:
        raise SetupError(f"OTEL_TRACES_SAMPLER is {name!r}; known are always_on, always_off, traceidratio")
    return known[plain]
