"""Bounded logs: both ends are kept, byte for byte."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from catchment.site.output import BoundedLog, OutputReader, tail


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(2, 64))
def test_a_log_holds_the_head_and_the_tail_of_what_was_written(pieces: list[bytes], max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        log = BoundedLog(path, max_bytes)
        for piece in pieces:
            log.write(piece)
        log.close()
        written, kept, half = b"".join(pieces), path.read_bytes(), max_bytes // 2
        if len(written) <= 2 * half:
            assert kept == written
        else:
            dropped = len(written) - 2 * half
            marker = f"\n... {dropped} bytes are left out here ...\n".encode()
            assert kept == written[:half] + marker + written[-half:]
        assert os.listdir(folder) == ["log"]  # noqa: PTH208


def test_the_reader_ends_with_the_last_writer(tmp_path: Path) -> None:
    read, write = os.pipe()
    reader = OutputReader(read, BoundedLog(tmp_path / "log", 1000))
    os.write(write, b"hello")
    os.close(write)
    reader.join(timeout=5)
    assert not reader.is_alive()
    assert tail(tmp_path / "log", 3) == "llo"


def test_the_tail_counts_characters_and_survives_broken_text(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("ää".encode() * 50 + b"\xff\0end")
    assert tail(path, 5) == "ä\ufffdend"
    assert tail(tmp_path / "none", 5) == ""
