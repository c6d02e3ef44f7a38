"""The published vectors: made alike again, and right by a second reading of the formulas."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.library.secagg.golden import DROPPED, PATH, vectors


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(PATH.read_text())


def test_the_same_randomness_gives_the_same_attempt(golden: dict[str, Any]) -> None:
    assert vectors() == golden


def framed(tag: bytes, *fields: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in (b"catchment-secagg-1", tag, *fields))


def hkdf(secret: bytes, info: bytes) -> bytes:
    extracted = hmac.new(bytes(32), secret, "sha256").digest()
    return hmac.new(extracted, info + b"\x01", "sha256").digest()[:16]


def words(seed: bytes, size: int) -> list[int]:
    """AES-128 on counter blocks, one by one."""
    aes = Cipher(algorithms.AES(seed), modes.ECB()).encryptor()  # noqa: S305 - the counter is made here
    stream = b"".join(aes.update(counter.to_bytes(16, "big")) for counter in range(-(-4 * size // 16)))
    return [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(size)]


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text)


def test_digests_are_those_of_the_documented_encoding(golden: dict[str, Any]) -> None:
    plan = golden["plan"]
    fields = [plan["session"], plan["mode"], str(plan["threshold"]), "all", *plan["cohort"]]
    digest = hashlib.sha256(framed(b"plan", *(field.encode() for field in fields))).digest()
    assert digest.hex() == golden["plan_digest"]
    parts = [digest]
    for party in golden["roster"]["parties"]:
        keys = (raw(party[key]) for key in ("identity", "cipher_key", "mask_key"))
        parts += [party["sender"].encode(), *keys]
    assert hashlib.sha256(framed(b"roster", *parts)).hexdigest() == golden["roster_digest"]


def test_masked_vectors_are_those_of_the_formula(golden: dict[str, Any]) -> None:
    """y_u = x_u + PRG(b_u) + sum over v > u of PRG(k_uv) - sum over v < u of PRG(k_uv), modulo 2^32."""
    plan, names = bytes.fromhex(golden["plan_digest"]), golden["plan"]["cohort"]
    public = {party["sender"]: raw(party["mask_key"]) for party in golden["roster"]["parties"]}
    for u, masked in golden["masked"].items():
        secrets = {key: bytes.fromhex(value) for key, value in golden["secrets"][u].items()}
        total = np.array(golden["inputs"][u], np.int64)
        total += words(hkdf(secrets["self_mask"], framed(b"self", plan, u.encode())), total.size)
        own = X25519PrivateKey.from_private_bytes(secrets["mask_key"])
        for v in names:
            if v != u:
                shared = own.exchange(X25519PublicKey.from_public_bytes(public[v]))
                pair = framed(b"pair", plan, min(u, v).encode(), max(u, v).encode())
                mask = np.array(words(hkdf(shared, pair), total.size), np.int64)
                total += mask if u < v else -mask
        assert (total % 2**32).tolist() == masked


def test_the_sum_is_that_of_the_inputs_that_arrived(golden: dict[str, Any]) -> None:
    there = [vector for name, vector in golden["inputs"].items() if name != DROPPED]
    assert golden["sum"] == (np.sum(there, axis=0) % 2**32).tolist()
    assert golden["survivors"]["dropped"] == [DROPPED]
