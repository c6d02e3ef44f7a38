"""The command as a whole: exit codes, errors, tokens, imports, and its page in the documentation."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result

from catchment.cli.main import COMMANDS, catchment
from tests.library.client.server import TableServer

Command = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[3]
REFUSAL = (403, {"state": "FAILED", "reason": "id: is required"})


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("job", "get", "none"), 3, "Error: there is nothing at GET /api/v1/namespaces/default/jobs/none\n"),
        (("namespace", "delete", "lab"), 1, "Error: it has jobs\n"),
        (("sites", "--server", "http://127.0.0.1:9"), 4, "nobody listens there"),
        (("sites", "--server", "nonsense"), 1, "is no address of a server"),
        (("sites", "--token-file", "/no/such/file"), 1, "cannot be read"),
        (("job", "get"), 2, "Missing argument"),
        (("job", "list", "--limit", "0"), 2, "Invalid value"),
        (("frobnicate",), 2, "No such command"),
        (("up", "--sqlite", "--database-url", "sqlite:///x"), 2, "exclude each other"),
    ],
)
def test_errors_are_a_sentence_on_stderr_and_a_code(
    command: Command, server: TableServer, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    server.answers["DELETE /api/v1/namespaces/lab"] = (409, {"detail": "it has jobs"})
    result = command(*arguments)
    assert result.exit_code == code
    assert sentence in result.stderr
    assert result.stdout == ""


def test_the_token_comes_from_its_file_or_the_environment(
    command: Command, server: TableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["GET /api/v1/sites"] = (200, {"sites": []})
    (tmp_path / "token").write_text("from_file\n")
    monkeypatch.setenv("CATCHMENT_TOKEN", "from_environment")
    command("sites")
    command("sites", "--token-file", str(tmp_path / "token"))
    sent = [headers["Authorization"] for _, _, headers in server.asked]
    assert sent == ["Bearer from_environment", "Bearer from_file"]


def test_an_empty_token_file_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    result = command("sites", "--token-file", str(tmp_path / "token"))
    assert (result.exit_code, "is empty" in result.stderr) == (1, True)


def test_tokens_are_made_listed_and_revoked_in_the_store(command: Command, tmp_path: Path) -> None:
    store = ("--home", str(tmp_path), "--database-url", f"sqlite:///{tmp_path / 'store.db'}")
    made = command("token", "create", "--role", "site", "--site", "site-1", *store)
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert re.fullmatch(r"catchment_[0-9a-f]{16}_\S{43}", token)
    token_id = token.split("_")[1]
    (listed,) = json.loads(command("token", "list", "--json", *store).stdout)["tokens"]
    assert (listed["id"], listed["role"], listed["site"], listed["revoke_time"]) == (
        token_id,
        "site",
        "site-1",
        None,
    )
    assert token.split("_", 2)[2] not in command("token", "list", *store).stdout
    assert command("token", "revoke", token_id, *store).exit_code == 0
    assert command("token", "revoke", token_id, *store).exit_code == 3
    assert "site" in command("token", "create", "--role", "site", *store).stderr


def test_a_token_of_a_new_home_is_kept_in_its_postgres(command: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = command("token", "create", "--role", "admin", "--json", "--home", str(home))
    assert json.loads(made.stdout)["role"] == "admin"
    (listed,) = json.loads(command("token", "list", "--json", "--home", str(home)).stdout)["tokens"]
    assert listed["role"] == "admin"
    assert (home / "database").read_text() == "postgres\n"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_store_is_migrated_twice_without_harm(command: Command, tmp_path: Path) -> None:
    store = ("--home", str(tmp_path), "--database-url", f"sqlite:///{tmp_path / 'store.db'}")
    for _ in range(2):
        assert (
            command("store", "migrate", *store).stdout == "the store's database has this version's schema\n"
        )


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from catchment.cli.main import catchment\n"
        "try: catchment(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for heavy in (
        "torch",
        "keras",
        "numpy",
        "prefect",
        "sqlalchemy",
        "pydantic",
        "rich",
        "fastapi",
        "asyncio",
    ):
        assert f"'{heavy}'" not in done.stderr
    assert done.stdout.count("\n  ") >= len(COMMANDS)


def test_talking_to_a_server_needs_the_base_install_only(server: TableServer) -> None:
    server.answers["GET /api/v1/sites"] = (200, {"sites": []})
    program = (
        "import sys; sys.modules |= dict.fromkeys(sys.argv[1].split(','))\n"
        "from catchment.cli.main import catchment; catchment(['sites', '--json'])"
    )
    absent = "torch,keras,prefect,sqlalchemy,fastapi,httpx,psycopg,alembic,fsspec"
    environment = {**os.environ, "CATCHMENT_SERVER": server.url}
    done = subprocess.run(
        [sys.executable, "-c", program, absent], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, json.loads(done.stdout)) == (0, {"sites": []}), done.stderr


def test_ctrl_c_ends_a_watch_with_its_own_code(server: TableServer) -> None:
    from tests.library.client.server import job_document
    from tests.library.stack.processes import until

    server.answers["GET /api/v1/namespaces/default/jobs/digits"] = (200, job_document(run=0))
    environment = {**os.environ, "CATCHMENT_SERVER": server.url}
    watching = subprocess.Popen(
        [sys.executable, "-m", "catchment.cli", "job", "watch", "digits"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert until(lambda: len(server.asked) >= 2)
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert b"Traceback" not in errors


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    for name, entry in COMMANDS.items():
        loaded = entry.load()
        assert loaded.name == name
        assert loaded.help
        assert entry.help.endswith(".")


def commands(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(group, click.Group):
        with click.Context(group) as context:
            for name in group.list_commands(context):
                found = group.get_command(context, name)
                assert found is not None
                yield from commands(found, (*path, name))
    else:
        yield path, group


def test_every_command_and_option_has_a_place_on_the_page() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    of_sites = (ROOT / "docs" / "site.md").read_text()
    sections = dict(
        re.findall(r"^## (?:`catchment (\w+)`|For all commands)\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    )
    for path, found in commands(catchment, ()):
        assert f"catchment {' '.join(path)}" in page
        described = sections[path[0]] + sections[""] + (of_sites if path[0] == "site" else "")
        for option in (one for one in found.params if isinstance(one, click.Option)):
            for name in (*option.opts, *option.secondary_opts):
                assert f"`{name}" in described, f"{' '.join(path)} {name}"
            assert option.help, f"{' '.join(path)} {option.name} has no help"


def test_the_page_names_no_option_that_does_not_exist() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    known = {
        name
        for _, found in commands(catchment, ())
        for option in found.params
        for name in (*option.opts, *option.secondary_opts)
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert named <= known | {"--help", "--version"}


def test_every_error_code_is_on_the_page() -> None:
    from catchment.cli import exits

    page = (ROOT / "docs" / "cli.md").read_text()
    codes = {exits.FINE, exits.FAILED, exits.USAGE, exits.NOT_FOUND, exits.UNREACHABLE, exits.INTERRUPTED}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)} == codes
