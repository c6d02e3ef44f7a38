"""JSON as Go's encoder writes it, so that digests of configs and manifests equal the original client's."""

from __future__ import annotations

import json
from typing import Any

# Go escapes what could end a script element or a line of JavaScript; none of them occurs outside of strings.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON; keys stay in the order given.

    Raises:
        ValueError: a number is not finite, or a text holds half of a surrogate pair.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPES).encode()
