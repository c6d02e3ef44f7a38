"""Log lines: plain, or one JSON object each; what they are about as fields, and no secret in either.

`about(job=..., round=...)` says for a block of code, and for what it calls, what its lines are about.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from catchment.observe.trace import current_trace_id

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
OF_PREFECT = {"flow_run_id": "run_id", "task_run_name": "task"}
"""Attributes of the records that Prefect's loggers make, and the fields that they become."""
_subject: ContextVar[Mapping[str, Any]] = ContextVar("log_subject", default={})  # noqa: B039 - never changed
_HIDDEN = "[hidden]"
_SECRETS = (
    # Logins, whoever sends them: `Authorization: Bearer x`, `Basic x`.
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"),
    # Our own tokens, wherever they stand.
    re.compile(r"(\bcatchment_[0-9a-f]{16}_)[\w-]{16,}"),
    # Logins of addresses: https://user:password@host.
    re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]*:[^\s/@'\"]*(?=@)"),
    # Parameters of addresses, signed ones of storages among them, and fields of forms and objects.
    re.compile(
        r"(?i)([\w-]*(?:token|password|passwd|secret|signature|credential|api[_-]?key|access[_-]?key)"
        r"[\w-]*['\"]?\s*[=:]\s*['\"]?)(?!\[hidden\])[^\s&'\",;)}\]]+"
    ),
)


def redacted(text: str) -> str:
    """The text without what looks like a secret: tokens, passwords, logins and signatures in addresses."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{_HIDDEN}", text)
    return text


@contextlib.contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Give the log lines of a block these fields, beside those of the blocks around it."""
    token = _subject.set({**_subject.get(), **fields})
    try:
        yield
    finally:
        _subject.reset(token)


class JsonLines(logging.Formatter):
    """Formats records; those with an attribute `facts` (a dict) have its entries as fields.

    Args:
        fixed: fields of every line.
    """

    def __init__(self, **fixed: Any) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
            **self._fixed,
            **{field: getattr(record, name) for name, field in OF_PREFECT.items() if hasattr(record, name)},
            **_subject.get(),
            **getattr(record, "facts", {}),
        }
        if (trace_id := current_trace_id()) is not None:
            line["trace_id"] = trace_id
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


class PlainLines(logging.Formatter):
    """The usual lines, without secrets; what they are about is in their words."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and those of an exception."""
        return redacted(super().format(record))


def formatter(log_format: LogFormat, text: str = TEXT, **fixed: Any) -> logging.Formatter:
    """What makes lines of that format.

    Args:
        log_format: of CATCHMENT_LOG_FORMAT.
        text: the pattern of plain lines.
        fixed: fields of every JSON line.
    """
    return JsonLines(**fixed) if log_format == "json" else PlainLines(text)


def wanted() -> LogFormat:
    """The format that the environment asks for, for who logs before settings are read; else "text"."""
    return "json" if os.environ.get("CATCHMENT_LOG_FORMAT") == "json" else "text"


def configure(
    log_format: LogFormat,
    part: str,
    *,
    level: int = logging.INFO,
    text: str = TEXT,
    stream: TextIO | None = None,
    **fixed: Any,
) -> None:
    """Make a process's lines go to a stream, in that format, and nowhere else; once, at its start.

    Args:
        log_format: of CATCHMENT_LOG_FORMAT.
        part: what process it is: "api", "runner", "site" and so on, a field of every JSON line.
        level: the lowest that is shown.
        text: the pattern of plain lines.
        stream: stderr when left out.
        fixed: further fields of every JSON line.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(log_format, text, part=part, **fixed))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def take_over(log_format: LogFormat, part: str, stream: TextIO | None = None) -> None:
    """Let the consoles that another package has set up write our JSON lines; nothing happens for "text".

    Prefect gives its loggers a handler of its own, which breaks lines at a terminal's width.
    """
    if log_format != "json":
        return
    known = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for logger in known:
        for handler in list(logger.handlers):
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                ours = logging.StreamHandler(stream or sys.stderr)
                ours.setLevel(handler.level)
                ours.setFormatter(JsonLines(part=part))
                logger.removeHandler(handler)
                logger.addHandler(ours)
