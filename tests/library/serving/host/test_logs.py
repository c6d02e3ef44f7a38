"""Logs of replicas: kept short under their writer, read for people."""

from __future__ import annotations

import json
import os
from pathlib import Path

from catchment.serving.host import logs


def line(message: str, level: str = "info", at: str = "2026-11-22T08:00:00.000+00:00") -> bytes:
    return json.dumps({"time": at, "level": level, "message": message}).encode() + b"\n"


def test_a_long_log_is_put_aside_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "uid" / "key-0.log"
    writer = logs.open_log(path)
    os.write(writer, line("early") * 100)
    logs.cut(path, most_bytes=1000)
    os.write(writer, line("late"))
    os.close(writer)
    assert path.read_bytes() == line("late")
    assert [json.loads(text)["message"] for _, text in logs.last_lines(path, 3)] == ["early", "early", "late"]
    logs.cut(path, most_bytes=1000)
    assert path.read_bytes() == line("late")


def test_lines_have_their_times_and_others_the_time_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    stack = b"Fatal Python error: Segmentation fault\n  File x.py\n"
    path.write_bytes(line("one") + stack + line("two", at="2026-11-22T08:00:01.000+00:00"))
    times = [at for at, _ in logs.last_lines(path, 10)]
    assert times == ["2026-11-22T08:00:00.000Z"] * 3 + ["2026-11-22T08:00:01.000Z"]
    assert logs.last_lines(path, 0) == []
    assert logs.last_lines(tmp_path / "none", 5) == []


def test_the_last_error_is_found_among_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("old", "error"))
    since = logs.size(path)
    assert logs.last_error(path, since) == ""
    with path.open("ab") as file:
        file.write(line("loading") + line("no graph", "error") + line("stopping"))
    assert logs.last_error(path, since) == "no graph"
    with path.open("ab") as file:
        file.write(b"")
    path.write_bytes(b"Traceback\nModuleNotFoundError: No module named 'onnxruntime'\n")
    assert logs.last_error(path, since + 10**6) == "ModuleNotFoundError: No module named 'onnxruntime'"
    assert logs.last_error(tmp_path / "none") == ""


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (logs.READ_BYTES + 5) + b"\n" + line("end"))
    assert [text for _, text in logs.last_lines(path, 10)] == [line("end").decode().rstrip()]


def test_lines_that_look_like_json_and_are_none_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"{\n" + b"{" * 100_000 + b'\n{"time": 3}\n[1]\n\xff\xfe\n')
    assert len(logs.last_lines(path, 10)) == 5
    assert logs.last_error(path) == "\ufffd\ufffd"
