"""The REST face of the protocol, as an application of RSGI."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson

from catchment import __version__
from catchment.errors import (
    CatchmentError,
    DeadlinePassed,
    InvalidField,
    NotFound,
    NotServing,
    Overloaded,
    TooLarge,
)
from catchment.model_server.engine import Engine
from catchment.model_server.rest_messages import read_request, write_reply
from catchment.model_server.rsgi import Exchange, Scope
from catchment.observe.registry import CONTENT_TYPE

log = logging.getLogger(__name__)
MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer))?")
JSON_LENGTH = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data"]
STATUS: dict[type[CatchmentError], int] = {
    InvalidField: 400,
    NotFound: 404,
    TooLarge: 413,
    NotServing: 503,
    Overloaded: 503,
    DeadlinePassed: 504,
}
INLINE_BYTES = 64 << 10
"""Larger bodies are parsed in a thread, whatever the model: other requests must not wait for it."""
READ_ANYWAY = 4
"""A body of up to so many times the limit is read to its end, so that the client hears why it is refused."""
JSON = ("content-type", "application/json")


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=lambda: [JSON])


class Rest:
    """The application: `await rest.__rsgi__(scope, exchange)` answers one request.

    Args:
        engine: the served model.
        broken: what the server's exchanges raise when a connection breaks off.
    """

    def __init__(self, engine: Engine, broken: type[Exception]) -> None:
        self._engine, self._broken = engine, broken
        self._pool = ThreadPoolExecutor(engine.config.concurrency, thread_name_prefix="rest")

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        """Answer one request; every failure is an answer, too."""
        if scope.proto != "http":
            return
        found = MODEL.fullmatch(scope.path)
        if found and found[3] == "infer" and scope.method == "POST":
            answer = await self._infer(scope, exchange, found[1], found[2])
        else:
            answer = self._look_up(scope, found)
        headers = answer.headers
        if self._engine.state == "stopping":
            headers = [*headers, ("connection", "close")]
        exchange.response_bytes(answer.status, headers, answer.body)

    async def _infer(self, scope: Scope, exchange: Exchange, name: str, version: str | None) -> Answer:
        began = time.monotonic()
        try:
            answer = await self._admitted(
                scope, exchange, name, version, began + self._engine.config.deadline_s
            )
        except CatchmentError as error:
            answer = _failed(error)
        except self._broken:
            answer = _said(400, "body: the connection broke off before its end")
        except Exception:  # the edge: whatever it is, the client hears and the log says
            log.exception("an inference request failed")
            answer = _said(500, "the server failed; its log says why")
        self._engine.metrics.answered("rest", str(answer.status), time.monotonic() - began)
        return answer

    async def _admitted(
        self, scope: Scope, exchange: Exchange, name: str, version: str | None, deadline: float
    ) -> Answer:
        engine = self._engine
        engine.check_name(name, version)
        _ = engine.model  # loaded?
        engine.gate.admit()
        try:
            body = await _read(scope, exchange, engine.config.max_request_bytes, deadline)
            json_length = scope.headers.get(JSON_LENGTH)
            if engine.quick and len(body) <= INLINE_BYTES and engine.gate.try_enter():
                try:
                    return self._answer(body, json_length, deadline)
                finally:
                    engine.gate.leave()
            return await self._in_thread(body, json_length, deadline)
        finally:
            engine.gate.release()

    async def _in_thread(self, body: bytes, json_length: str | None, deadline: float) -> Answer:
        def work() -> Answer:
            with self._engine.gate.slot(deadline):
                return self._answer(body, json_length, deadline)

        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError:
            raise DeadlinePassed("the inference did not end in time") from None

    def _answer(self, body: bytes, json_length: str | None, deadline: float) -> Answer:
        engine = self._engine
        request = read_request(body, json_length, engine.model.inputs, engine.outputs)
        tensors = engine.run(request, deadline)
        reply, length = write_reply(engine.config.name, engine.config.version, request, tensors)
        if length is None:
            return Answer(200, reply)
        headers = [("content-type", "application/octet-stream"), (JSON_LENGTH, str(length))]
        return Answer(200, reply, headers)

    def _look_up(self, scope: Scope, found: re.Match[str] | None) -> Answer:
        try:
            if scope.path == "/metrics" and scope.method == "GET":
                return Answer(200, self._engine.metrics_text().encode(), [("content-type", CONTENT_TYPE)])
            document = self._document(scope.path, found)
            if scope.method != ("POST" if found and found[3] == "infer" else "GET"):
                return _said(405, f"{scope.path} does not answer {scope.method}")
        except CatchmentError as error:
            return _failed(error)
        status = 200 if document.get("ready", True) else 503
        return Answer(status, orjson.dumps(document))

    def _document(self, path: str, found: re.Match[str] | None) -> dict[str, Any]:
        engine = self._engine
        if found:
            engine.check_name(found[1], found[2])
            if found[3] == "ready":
                return {"name": engine.config.name, "ready": engine.ready}
            return model_metadata(engine) if found[3] is None else {}
        if path in {"/v2", "/v2/"}:
            return {"name": "catchment", "version": __version__, "extensions": EXTENSIONS}
        if path == "/v2/health/live":
            return {"live": True}
        if path == "/v2/health/ready":
            return {"ready": engine.ready}
        raise NotFound(f"there is nothing at {path!r:.200}")


def model_metadata(engine: Engine) -> dict[str, Any]:
    """The model's name, versions and signature, in the protocol's words. Raises NotServing."""
    model = engine.model
    return {
        "name": engine.config.name,
        "versions": [engine.config.version],
        "platform": model.platform,
        **{
            kind: [{"name": each.name, "datatype": each.datatype.name, "shape": each.sizes} for each in specs]
            for kind, specs in (("inputs", model.inputs), ("outputs", model.outputs))
        },
    }


async def _read(scope: Scope, exchange: Exchange, most: int, deadline: float) -> bytes:
    """The whole body. Raises InvalidField, TooLarge, DeadlinePassed."""
    encoding = scope.headers.get("content-encoding")
    if encoding not in {None, "identity"}:
        raise InvalidField("Content-Encoding", "must not be there: compressed bodies are not taken")
    announced = scope.headers.get("content-length")
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            if announced is None or int(announced) > most:
                return await _read_parts(exchange, most, int(announced or 0))
            body = await exchange()
    except TimeoutError:
        raise DeadlinePassed("the request's body did not arrive in time") from None
    if len(body) != int(announced):
        raise InvalidField("body", f"ended after {len(body)} of {announced} bytes")
    return body


async def _read_parts(exchange: Exchange, most: int, announced: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    if announced <= READ_ANYWAY * most:
        async for part in exchange:
            size += len(part)
            if size > READ_ANYWAY * most:
                break
            if size <= most:
                parts.append(part)
            else:
                parts.clear()
    if max(size, announced) > most:
        raise TooLarge(f"the request has more than {most} bytes, which is the most that is taken")
    return b"".join(parts)


def _failed(error: CatchmentError) -> Answer:
    status = next((STATUS[each] for each in type(error).__mro__ if each in STATUS), 500)
    answer = _said(status, str(error))
    if status == 503:
        answer.headers.append(("retry-after", str(getattr(error, "retry_after_s", 1))))
    return answer


def _said(status: int, sentence: str) -> Answer:
    return Answer(status, orjson.dumps({"error": sentence}))
