"""The gRPC face of the protocol: GRPCInferenceService, each call in a thread of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from catchment import __version__
from catchment.errors import (
    CatchmentError,
    DeadlinePassed,
    InvalidField,
    NotFound,
    NotServing,
    Overloaded,
    SetupError,
)
from catchment.model_server.engine import Engine
from catchment.model_server.grpc_messages import CLASSES, SERVICE
from catchment.model_server.grpc_tensors import read_request, write_reply
from catchment.model_server.rest import model_metadata

log = logging.getLogger(__name__)
CODE: dict[type[CatchmentError], grpc.StatusCode] = {
    InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    NotServing: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
}
SPARE_THREADS = 4
"""Beyond those of requests that run or wait: questions for health are answered by a server that is full."""
REPLY_OVERHEAD_BYTES = 1 << 20
Call = Callable[[Any], dict[str, Any]]


class GrpcService:
    """Answers calls; used by the threads of grpcio's server.

    Args:
        engine: the served model.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def handlers(self) -> Any:
        """What grpcio's server is given."""
        simple: dict[str, Call] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._engine.ready},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: {"name": "catchment", "version": __version__},
            "ModelMetadata": self._model_metadata,
        }
        methods = {name: _handler(name, self._simple(name, call)) for name, call in simple.items()}
        methods["ModelInfer"] = _handler("ModelInfer", self._infer)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _model_ready(self, message: Any) -> dict[str, Any]:
        self._engine.check_name(message.name, message.version)
        return {"ready": self._engine.ready}

    def _model_metadata(self, message: Any) -> dict[str, Any]:
        self._engine.check_name(message.name, message.version)
        return model_metadata(self._engine)

    def _simple(self, name: str, call: Call) -> Callable[[Any, Any], Any]:
        def answer(message: Any, context: Any) -> Any:
            try:
                return CLASSES[f"{name}Response"](**call(message))
            except CatchmentError as error:
                return context.abort(_code(error), str(error))

        return answer

    def _infer(self, message: Any, context: Any) -> Any:
        began = time.monotonic()
        code, said = grpc.StatusCode.OK, ""
        try:
            reply = self._admitted(message, began, context)
        except CatchmentError as error:
            code, said = _code(error), str(error)
        except Exception:  # the edge: whatever it is, the client hears and the log says
            log.exception("an inference request failed")
            code, said = grpc.StatusCode.INTERNAL, "the server failed; its log says why"
        self._engine.metrics.answered("grpc", code.name, time.monotonic() - began)
        return reply if code is grpc.StatusCode.OK else context.abort(code, said)

    def _admitted(self, message: Any, began: float, context: Any) -> Any:
        engine = self._engine
        engine.check_name(message.model_name, message.model_version)
        model = engine.model
        left = context.time_remaining()
        allowed = engine.config.deadline_s if left is None else min(left, engine.config.deadline_s)
        deadline = began + allowed
        engine.gate.admit()
        try:
            with engine.gate.slot(deadline):
                request = read_request(message, model.inputs, engine.outputs)
                tensors = engine.run(request, deadline)
                return write_reply(engine.config.name, engine.config.version, request, tensors)
        finally:
            engine.gate.release()


def _handler(name: str, answer: Callable[[Any, Any], Any]) -> Any:
    request, response = CLASSES[f"{name}Request"], CLASSES[f"{name}Response"]
    return grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)


def _code(error: CatchmentError) -> grpc.StatusCode:
    found = (CODE[each] for each in type(error).__mro__ if each in CODE)
    return next(found, grpc.StatusCode.INTERNAL)


def start_grpc(engine: Engine, host: str, port: int) -> tuple[Any, int]:
    """A listening server of grpcio, and its port; `port` 0 takes a free one.

    Raises:
        SetupError: the port is taken.
    """
    threads = engine.config.concurrency + engine.config.queue + SPARE_THREADS
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
        maximum_concurrent_rpcs=threads,
        options=[
            ("grpc.max_receive_message_length", engine.config.max_request_bytes + REPLY_OVERHEAD_BYTES),
            ("grpc.max_send_message_length", -1),
            # Otherwise a second server on the port would silently take half of the calls.
            ("grpc.so_reuseport", 0),
        ],
    )
    server.add_generic_rpc_handlers((GrpcService(engine).handlers(),))
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise SetupError(f"cannot listen for gRPC on {host} port {port}: {error}") from error
    server.start()
    return server, bound
