"""From parameters to argv, and from entry files to commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import SiteError
from catchment.site import command
from catchment.site.command import arguments, build
from catchment.site.entries import Entries, Entry, EntryPart, read_sent

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@pytest.mark.parametrize(
    ("params", "parameters", "expected"),
    [
        ({}, {"--epochs": 2}, ["--epochs", "2"]),
        ({}, {"--lr": 2.0}, ["--lr", "2.0"]),
        ({}, {"-v": None}, ["-v"]),
        ({}, {"--flag": False}, ["--flag", "False"]),
        ({}, {"--flag": True}, ["--flag", "True"]),
        ({}, {"--zero": 0}, ["--zero", "0"]),
        ({}, {"--empty": ""}, ["--empty", ""]),
        ({"-v": None, "--lr": 0.1}, {"--epochs": 2, "--lr": 0.5}, ["-v", "--lr", "0.5", "--epochs", "2"]),
        ({"--name": "a b; rm *"}, {}, ["--name", "a b; rm *"]),
    ],
)
def test_parameters_become_arguments(params, parameters, expected) -> None:
    assert arguments(params, parameters) == expected


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), SCALARS), st.dictionaries(st.text(max_size=5), SCALARS)
)
def test_every_key_stands_once_in_order_with_the_jobs_value(params, parameters) -> None:
    line = iter(arguments(params, parameters))
    for key in dict.fromkeys([*params, *parameters]):
        value = parameters[key] if key in parameters else params[key]
        assert next(line) == key
        if value is not None:
            assert next(line) == str(value)
    assert next(line, None) is None


@given(SCALARS)
def test_numbers_keep_their_type_through_the_entry_file(value) -> None:
    content = json.dumps({"entry": "x", "params": {"k": value}})
    part = EntryPart.model_validate_json(content)
    assert part.params is not None
    assert type(part.params["k"]) is type(value)
    assert part.params["k"] == value


def entry(folder: Path, name: str = "e", **content: object) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"train": {}}, "train.entry: Field required"),
        ({"train": {"entry": "x", "parms": {}}}, "train.parms: Extra inputs are not permitted"),
        ({"train": {"entry": "x", "params": {"--a": [1]}}}, "train.params.--a"),
        ({"train": {"entry": "x", "timeout": 0}}, "train.timeout: Input should be greater than 0"),
        ({"evaluate": {"entry": ""}}, "evaluate.entry"),
        ({"scriptpath": "x"}, "scriptpath: Extra inputs"),
    ],
)
def test_a_wrong_entry_file_names_file_and_field(tmp_path: Path, content, problem: str) -> None:
    with pytest.raises(SiteError, match=r"e\.json") as caught:
        Entry.read(entry(tmp_path, **content))
    assert problem in str(caught.value)


def test_no_json_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("{")
    with pytest.raises(SiteError, match=r"e\.json: the file: Invalid JSON"):
        Entry.read(tmp_path / "e.json")


def test_defaults_are_the_originals(tmp_path: Path) -> None:
    found = Entry.read(entry(tmp_path, train={"entry": "t.py"}))
    assert found.folder == tmp_path
    part = found.part("train")
    assert (part.command, part.params, part.timeout) == ("python3", None, 180)


@pytest.mark.parametrize("name", ["../e", "/etc/passwd", "", ".e", "a/b", "e\0"])
def test_only_plain_names_are_entries(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "entries"
    folder.mkdir()
    entry(tmp_path, train={"entry": "t.py"})
    with pytest.raises(SiteError, match="has no task entry"):
        Entries(folder).find(name)


@pytest.mark.parametrize(
    ("config", "script_path"),
    [("../e.json", None), ("c.json", ".."), ("c.json", "/tmp"), ("link.json", None)],
)
def test_sent_scripts_stay_in_their_folder(tmp_path: Path, config: str, script_path: str | None) -> None:
    root = tmp_path / "job"
    root.mkdir()
    entry(tmp_path, train={"entry": "t.py"})
    entry(root, "c", train={"entry": "t.py"}, **({"script_path": script_path} if script_path else {}))
    (root / "link.json").symlink_to(tmp_path / "e.json")
    with pytest.raises(SiteError, match="leads out of the sent folder"):
        read_sent(root, config)


@pytest.mark.parametrize(
    ("line", "warm", "argv"),
    [
        ("python3", True, [sys.executable, "t.py"]),
        ("python", True, [sys.executable, "t.py"]),
        ("python3.11", True, [sys.executable, "t.py"]),
        (sys.executable, True, [sys.executable, "t.py"]),
        ("python3 -X dev", False, [sys.executable, "-X", "dev", "t.py"]),
        ("sh -e 'a b'", False, ["sh", "-e", "a b", "t.py"]),
    ],
)
def test_python_is_this_interpreter_and_plain_python_may_start_warm(tmp_path, line, warm, argv) -> None:
    (tmp_path / "t.py").touch()
    made = build(EntryPart(command=line, entry="t.py"), {}, tmp_path, "/usr/bin:/bin")
    assert list(made.argv) == argv
    assert made.script == (str(tmp_path / "t.py") if warm else "")


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"entry": "gone.py"}, "entry 'gone.py' is no file"),
        ({"entry": "t.py", "command": "no-such-program"}, "'no-such-program' is no program of this site"),
        ({"entry": "t.py", "command": "./run"}, "'./run' is no program of this site"),
        ({"entry": "t.py", "command": "sh 'a"}, "cannot be read"),
        ({"entry": "t.py", "command": " "}, "command is empty"),
        ({"entry": "t.py", "params": {"a\0b": 1}}, "NUL"),
    ],
)
def test_what_cannot_be_started_is_said_before(tmp_path: Path, part, problem: str) -> None:
    (tmp_path / "t.py").touch()
    with pytest.raises(SiteError, match=problem):
        command.build(EntryPart(**part), {}, tmp_path, "/usr/bin:/bin")
