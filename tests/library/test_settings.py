"""Every setting is described, documented with its default, and read from the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from catchment.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
FIELDS = Settings.model_fields


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(f"CATCHMENT_{name.upper()}", raising=False)


def documented() -> dict[str, tuple[str, str]]:
    """Variable -> (default, words), from the table."""
    rows = re.findall(r"^\| `(CATCHMENT_\w+)` \| (.*?) \| (.*?) \|$", DOCS.read_text(), re.MULTILINE)
    return {name: (default, words) for name, default, words in rows}


def shown(name: str) -> str:
    """A default as the table shows it."""
    default = FIELDS[name].default
    if name == "home":
        return "`~/.catchment`"
    if default in ("", None):
        return "(empty)"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_documented_with_its_default_and_its_words(name: str) -> None:
    assert FIELDS[name].description
    assert documented()[f"CATCHMENT_{name.upper()}"] == (shown(name), FIELDS[name].description)


def test_the_documentation_names_no_setting_that_is_gone() -> None:
    assert set(documented()) == {f"CATCHMENT_{name.upper()}" for name in FIELDS}


def test_the_environment_is_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CATCHMENT_HOME", str(tmp_path / "a b"))
    monkeypatch.setenv("CATCHMENT_SITE_LEASE_S", "7.5")
    monkeypatch.setenv("CATCHMENT_MAX_RESUMES", "0")
    monkeypatch.setenv("CATCHMENT_AUTH", "tokens")
    settings = Settings(max_resumes=3)
    assert (settings.home, settings.site_lease_s, settings.max_resumes, settings.auth) == (
        tmp_path / "a b",
        7.5,
        3,
        "tokens",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SITE_LEASE_S", "0"),
        ("SITE_POLL_S", "-1"),
        ("JOB_LEASE_S", "soon"),
        ("MAX_RESUMES", "-1"),
        ("MAX_RESUMES", "1.5"),
        ("MAX_UPDATE_BYTES", "0"),
        ("AUTH", "none"),
    ],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CATCHMENT_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_an_argument_that_is_no_setting_is_refused() -> None:
    arguments: dict[str, Any] = {"databaseurl": "sqlite:///x"}
    with pytest.raises(ValidationError, match="databaseurl"):
        Settings(**arguments)


def test_what_is_empty_follows_from_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.effective_database_url == f"sqlite:///{tmp_path / 'catchment.db'}"
    assert settings.effective_storage_url == tmp_path.as_uri()
    assert settings.effective_cache_dir == tmp_path / "cache"
    assert settings.effective_environments_dir == tmp_path / "cache" / "environments"
    given = Settings(
        home=tmp_path, database_url="postgresql://h/d", storage_url="s3://b/p", cache_dir=tmp_path / "c"
    )
    assert given.effective_database_url == "postgresql://h/d"
    assert given.effective_storage_url == "s3://b/p"
    assert given.effective_cache_dir == tmp_path / "c"
    assert given.effective_environments_dir == tmp_path / "c" / "environments"
    assert Settings(environments_dir=tmp_path / "e").effective_environments_dir == tmp_path / "e"


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.site_lease_s = 1.0  # type: ignore[misc]
