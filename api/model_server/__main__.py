"""`python -m api.model_server`: serve one ONNX model over the Open Inference Protocol v2."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import sys
from pathlib import Path

import click

from api.model_server.process import LISTEN_FAILED, Ports, serve
from catchment.errors import CatchmentError, InvalidField
from catchment.model_server.config import ServingConfig, read_config
from catchment.model_server.engine import Engine
from catchment.observe.logs import JsonLines

log = logging.getLogger("api.model_server")
PORT = click.IntRange(0, 65535)


@click.command()
@click.option(
    "--model", "folder", required=True, type=click.Path(path_type=Path), help="Folder of the model."
)
@click.option("--name", required=True, help="The model's name in addresses.")
@click.option("--version", default="1", show_default=True, help="The model's version in addresses.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--http-port", default=8000, show_default=True, type=PORT, help="Port of REST; 0: a free one.")
@click.option("--grpc-port", default=8001, show_default=True, type=PORT, help="Port of gRPC; 0: a free one.")
@click.option("--config", default="{}", help="Bounds, as a JSON object or as @FILE (docs/model-server.md).")
def main(
    folder: Path, name: str, version: str, host: str, http_port: int, grpc_port: int, config: str
) -> None:
    """Serve one model.

    \b
    Exit codes: 0 stopped by a signal, everything answered; 2 wrong usage, or a port is taken;
    3 the model cannot be served; 4 requests were cut off when the time to drain was over.
    """
    faulthandler.enable()  # a crash in native code leaves its stack in the log
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(model=name, version=version))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        bounds = _read(config, name, version)
        sys.exit(asyncio.run(serve(Engine(bounds), folder, Ports(host, http_port, grpc_port))))
    except CatchmentError as error:
        _refuse(str(error))


def _refuse(sentence: str) -> None:
    log.error("%s", sentence)
    sys.exit(LISTEN_FAILED)


def _read(config: str, name: str, version: str) -> ServingConfig:
    """Raises InvalidField."""
    try:
        document = json.loads(Path(config[1:]).read_text() if config.startswith("@") else config)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidField(
            "--config", f"must be a JSON object, or @ and the name of such a file: {error}"
        ) from None
    if not isinstance(document, dict) or {"name", "version"} & document.keys():
        raise InvalidField("--config", "must be an object without name and version, which have options")
    return read_config({**document, "name": name, "version": version})


if __name__ == "__main__":
    main()
