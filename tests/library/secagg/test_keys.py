"""Keys against published vectors, and what altered ones do."""

from __future__ import annotations

import pytest

from catchment.secagg.keys import Agreement, Identity, derive, fingerprint, is_signed, seal, unseal


def test_derivation_is_hkdf_sha256() -> None:
    """RFC 5869, test case 3: no salt; its first 32 bytes."""
    assert derive(b"\x0b" * 22, b"", 32).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    )


def test_more_than_one_block_is_not_derived() -> None:
    with pytest.raises(ValueError, match="33 bytes"):
        derive(b"x", b"", 33)


def test_both_sides_agree_and_others_do_not() -> None:
    alice, bob, eve = (Agreement.generate() for _ in range(3))
    assert alice.shared(bob.public) == bob.shared(alice.public)
    assert eve.shared(bob.public) != alice.shared(bob.public)


def test_a_key_that_gives_everybody_the_same_secret_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the library's
        Agreement.generate().shared(bytes(32))


def test_an_altered_box_key_nonce_or_context_is_noticed() -> None:
    box = seal(b"k" * 16, b"n" * 12, b"content", b"context")
    assert unseal(b"k" * 16, b"n" * 12, box, b"context") == b"content"
    for key, nonce, given, context in (
        (b"K" * 16, b"n" * 12, box, b"context"),
        (b"k" * 16, b"N" * 12, box, b"context"),
        (b"k" * 16, b"n" * 12, bytes([box[0] ^ 1]) + box[1:], b"context"),
        (b"k" * 16, b"n" * 12, box[:-1] + bytes([box[-1] ^ 1]), b"context"),
        (b"k" * 16, b"n" * 12, box, b"Context"),
    ):
        with pytest.raises(ValueError, match="altered"):
            unseal(key, nonce, given, context)


def test_signatures_hold_for_one_content_and_one_identity() -> None:
    identity, other = Identity.generate(), Identity.generate()
    signature = identity.sign(b"content")
    assert is_signed(identity.public, signature, b"content")
    assert not is_signed(identity.public, signature, b"Content")
    assert not is_signed(other.public, signature, b"content")
    assert not is_signed(b"no key", signature, b"content")


def test_nothing_that_is_printed_shows_a_secret() -> None:
    agreement, identity = Agreement.generate(), Identity.generate()
    assert agreement.secret.hex() not in repr(agreement)
    assert identity.secret.hex() not in repr(identity)
    assert fingerprint(identity.public) in repr(identity)
