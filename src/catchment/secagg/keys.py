"""Keys: key agreement (X25519), derivation (HKDF-SHA256), boxes (AES-128-GCM), signatures (Ed25519)."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_AES_BYTES = 16

Entropy = Callable[[int], bytes]


def derive(secret: bytes, info: bytes, size: int = _AES_BYTES) -> bytes:
    """HKDF-SHA256 without salt (RFC 5869), up to 32 bytes: one expansion."""
    if not 0 < size <= hashlib.sha256().digest_size:
        raise ValueError(f"{size} bytes cannot be derived in one step")
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:size]


class Agreement:
    """An X25519 key pair of one attempt."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._private = X25519PrivateKey.from_private_bytes(secret)
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, entropy: Entropy = os.urandom) -> Agreement:
        """A fresh pair."""
        return cls(entropy(KEY_BYTES))

    def shared(self, public: bytes) -> bytes:
        """The secret shared with the holder of `public`.

        Raises:
            ValueError: it is no public key, or one of those that give everybody the same secret.
        """
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))

    def __repr__(self) -> str:
        return f"Agreement(public={self.public.hex()[:16]}…)"


def seal(key: bytes, nonce: bytes, content: bytes, context: bytes) -> bytes:
    """An AES-128-GCM box of `content`, bound to `context`. A key must serve one nonce once."""
    return AESGCM(key).encrypt(nonce, content, context)


def unseal(key: bytes, nonce: bytes, box: bytes, context: bytes) -> bytes:
    """What is in a box.

    Raises:
        ValueError: the box or what it is bound to was altered.
    """
    try:
        return AESGCM(key).decrypt(nonce, box, context)
    except InvalidTag:
        raise ValueError("the box was altered, or is not for this party") from None


class Identity:
    """A party's long-lived Ed25519 key."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, entropy: Entropy = os.urandom) -> Identity:
        """A new identity."""
        return cls(entropy(KEY_BYTES))

    def sign(self, content: bytes) -> bytes:
        """A signature, 64 bytes."""
        return self._private.sign(content)

    def __repr__(self) -> str:
        return f"Identity({fingerprint(self.public)})"


def is_signed(public: bytes, signature: bytes, content: bytes) -> bool:
    """Whether the holder of `public` signed `content`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """A public key as people compare it: `ed25519:` and 32 hex digits of its SHA-256."""
    return "ed25519:" + hashlib.sha256(public).hexdigest()[:32]
