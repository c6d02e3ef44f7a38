"""A site's identity key: made once, kept from others; and whom it believes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from catchment.errors import SetupError
from catchment.secagg.keys import Identity, fingerprint
from catchment.site.identity import KEY_FILE, KnownIdentities, own_identity, read_identities


def test_a_key_is_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    first = own_identity(tmp_path)
    assert own_identity(tmp_path).public == first.public
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    own_identity(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(SetupError, match="chmod 600"):
        own_identity(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(SetupError, match="no identity key"):
        own_identity(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == content


def test_whoever_is_met_first_is_believed_from_then_on(tmp_path: Path) -> None:
    one, other = Identity.generate().public, Identity.generate().public
    known = KnownIdentities(tmp_path / "known.json")
    assert known.trust("a", one)
    assert known.trust("b", other)
    assert not known.trust("a", other)
    again = KnownIdentities(tmp_path / "known.json")
    assert again.trust("a", one)
    assert not again.trust("a", other)


def test_with_a_list_nobody_else_is_believed(tmp_path: Path) -> None:
    one, other = Identity.generate().public, Identity.generate().public
    known = KnownIdentities(tmp_path / "known.json", {"a": fingerprint(one)})
    assert known.trust("a", one)
    assert not known.trust("a", other)
    assert not known.trust("b", other)
    assert not (tmp_path / "known.json").exists()


@pytest.mark.parametrize("content", ["[]", "{", '{"a": 1}'])
def test_a_list_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(SetupError, match="site names and fingerprints"):
        read_identities(path)
    path.write_text(json.dumps({"a": "ed25519:00"}))
    assert read_identities(path) == {"a": "ed25519:00"}
