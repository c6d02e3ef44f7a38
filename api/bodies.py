"""Bodies from raw bytes: bounded, strict JSON, so that nothing ambiguous reaches the library."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from catchment.errors import InvalidField, Refused, TooLarge
from catchment.findings import invalid_field

M = TypeVar("M", bound=BaseModel)
JOB_BYTES = 1 << 20
MESSAGE_BYTES = 16 << 20
DRAIN = 16
"""A body of up to so many times the limit is read to its end, so that the client hears why it is refused."""
ARRIVES_S = 60.0
DEPTH = 64


async def job_body(request: Request) -> object:
    """The JSON of a job.

    Raises:
        InvalidField: it is no JSON, ambiguous or nested too deeply.
        TooLarge: it has more than a mebibyte.
    """
    _check_content_type(request)
    return await run_in_threadpool(parse, await _read(request, JOB_BYTES), strict_text=True)


async def raw_message(request: Request) -> bytes:
    """The request's body as it came: strict JSON, but not yet read as any message.

    Raises:
        InvalidField: it is no JSON, ambiguous or nested too deeply.
        TooLarge: it has more than a message may have.
    """
    _check_content_type(request)
    raw = await _read(request, MESSAGE_BYTES)
    await run_in_threadpool(parse, raw)
    return raw


async def small_body(request: Request) -> bytes:
    """The request's body, of a job's size at most. Raises TooLarge."""
    return await _read(request, JOB_BYTES)


def message(model: type[M], *, empty: bytes = b"") -> Callable[[Request], Awaitable[M]]:
    """A dependency that gives the request's body as this message of the exchange; none is `empty`."""

    async def parsed(request: Request) -> M:
        _check_content_type(request)
        body = await run_in_threadpool(parse, await _read(request, MESSAGE_BYTES) or empty)
        try:
            return model.model_validate(body)
        except ValidationError as error:
            raise invalid_field(error) from None

    return parsed


def parse(raw: bytes, *, strict_text: bool = False) -> object:
    """The value of a JSON text in UTF-8.

    Refused are duplicate keys, NaN, numbers that do not fit a double, lone surrogates, and with
    `strict_text` NUL characters, which PostgreSQL cannot keep.

    Raises:
        InvalidField: names what is wrong.
    """
    try:
        value = json.loads(
            raw.decode(), object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise InvalidField("body", "is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidField("body", f"is no JSON: {error}") from None
    except RecursionError:
        raise InvalidField("body", f"is nested deeper than {DEPTH} levels") from None
    except ValueError:
        raise InvalidField("body", "contains a number of too many digits") from None
    _check_values(value, strict_text=strict_text)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise InvalidField(key, "is given twice")
        result[key] = value
    return result


def _no_number(word: str) -> float:
    raise InvalidField("body", f"contains {word}, which is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidField("body", f"contains {text[:40]}, which is too large for a number")
    return number


def _check_values(value: object, *, strict_text: bool) -> None:
    """Look at every string and at the depth, without recursion."""
    todo: list[tuple[str, object, int]] = [("", value, 0)]
    while todo:
        path, item, depth = todo.pop()
        if depth > DEPTH:
            raise InvalidField("body", f"is nested deeper than {DEPTH} levels")
        if isinstance(item, dict):
            for key, inner in item.items():
                _check_text(path or "body", key, strict_text)
                todo.append((f"{path}.{key}" if path else key, inner, depth + 1))
        elif isinstance(item, list):
            todo.extend((f"{path}.{index}", inner, depth + 1) for index, inner in enumerate(item))
        elif isinstance(item, str):
            _check_text(path or "body", item, strict_text)


def _check_text(path: str, text: str, strict_text: bool) -> None:
    if strict_text and "\x00" in text:
        raise InvalidField(path.replace("\x00", "\\0"), "contains a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidField(path.encode(errors="replace").decode(), "contains half a surrogate pair")


def _check_content_type(request: Request) -> None:
    """JSON or nothing said: a browser cannot send these across origins without asking first."""
    media, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    media, parameters = media.strip(), parameters.strip()
    if media and media != "application/json" and not media.endswith("+json"):
        raise InvalidField("Content-Type", f"must be application/json, got {media}")
    if parameters.startswith("charset=") and parameters[8:].strip('"') not in ("utf-8", "utf8"):
        raise InvalidField("Content-Type", f"the charset must be utf-8, got {parameters[8:]}")


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    too_large = TooLarge(f"the body has more than {limit} bytes, which is the most that is taken")
    if announced.isdecimal() and int(announced) > limit * DRAIN:
        raise too_large
    received, size = bytearray(), 0
    try:
        async with asyncio.timeout(ARRIVES_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    received += chunk
                elif size > limit * DRAIN:
                    break
    except TimeoutError:
        raise Refused(f"the body did not arrive within {ARRIVES_S:g} s") from None
    if size > limit:
        raise too_large
    return bytes(received)
