"""Addresses of the gateway: `/seldon/{namespace}/{serving}/v2/...`, and `/serving/...` alike."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from catchment.errors import NotFound

PREFIXES = ("/seldon/", "/serving/")
_OUTER = re.compile(r"/(?:seldon|serving)/([^/]+)/([^/]+)/v2(/.*)?", re.DOTALL)
_MODEL = re.compile(
    r"/models/([^/]+)(?:/versions/([A-Za-z0-9][A-Za-z0-9._-]{0,63}))?"
    r"(?:/(ready|config|stats|infer|explain|generate|generate_stream))?"
)
_PLAIN = ("", "/", "/health/live", "/health/ready")
_ASKS_MODEL = frozenset(("infer", "explain", "generate", "generate_stream"))
READS, POSTS = ("GET", "HEAD"), ("POST",)


@dataclass(frozen=True)
class Asked:
    """What a request's path asks for.

    Attributes:
        model: the model's name in the path; empty where it has none.
        version: the model's version in the path; empty where it has none.
        verb: the path's last part, after the model.
        plain: the path after `/v2`, where it names no model.
    """

    namespace: str
    serving: str
    model: str = ""
    version: str = ""
    verb: str = ""
    plain: str = ""

    @property
    def is_inference(self) -> bool:
        """Whether the model is to run: what figures count."""
        return self.verb in _ASKS_MODEL

    @property
    def methods(self) -> tuple[str, ...]:
        """What may be done there."""
        return POSTS if self.is_inference else READS

    def inner(self, model: str) -> str:
        """The path at a model server, which knows its model as `model`."""
        if not self.model:
            return f"/v2{self.plain}"
        version = f"/versions/{self.version}" if self.version else ""
        verb = f"/{self.verb}" if self.verb else ""
        return f"/v2/models/{model}{version}{verb}"


def is_gateway(path: str) -> bool:
    """Whether the gateway answers a path."""
    return path.startswith(PREFIXES)


@functools.lru_cache(maxsize=4096)
def parse(path: str) -> Asked:
    """What a decoded path asks for. Only what the protocol has for inference goes through.

    What loads, unloads or reconfigures models at some servers is nobody's business here.

    Raises:
        NotFound: nothing that the gateway passes on.
    """
    outer = _OUTER.fullmatch(path)
    if outer is None:
        raise NotFound(f"there is nothing at {path[:200]!r}: addresses are /serving/NAMESPACE/SERVING/v2/...")
    namespace, serving, inner = outer[1], outer[2], outer[3] or ""
    if inner in _PLAIN:
        return Asked(namespace, serving, plain=inner)
    model = _MODEL.fullmatch(inner)
    if model is None:
        raise NotFound(f"there is nothing at {'/v2' + inner[:200]!r} of a serving")
    return Asked(namespace, serving, model[1], model[2] or "", model[3] or "")
