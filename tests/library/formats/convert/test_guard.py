"""What lies on the disk is counted as it is, holes and links included; a child is ended for it once."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from catchment.formats.convert.guard import Guard, disk_use
from catchment.formats.convert.job_folder import job_folder
from tests.conftest import wait_until


def nest(folder: Path, name: str, depth: int) -> None:
    """Folders in folders, deeper than paths can say."""
    here = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=here)
            inner = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)


class Child:
    """Remembers how it was asked to stop."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def stop(self, grace_s: float) -> None:
        self.asked.append(grace_s)


def test_bytes_on_disk_are_counted_and_holes_and_what_links_lead_to_are_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "large").write_bytes(bytes(3_000_000))
    folder = tmp_path / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    empty, _ = disk_use(folder, 100)
    (folder / "deep" / "deeper" / "file").write_bytes(b"x" * 1_000_000)
    with (folder / "hole").open("wb") as file:
        file.truncate(10**12)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    size, files = disk_use(folder, 100)
    assert 1_000_000 <= size - empty < 1_100_000
    assert files == 5
    assert disk_use(folder, 2)[1] == 3
    assert disk_use(tmp_path / "nothing", 100) == (0, 0)


def test_a_child_with_too_many_files_is_ended_with_the_reason(tmp_path: Path) -> None:
    child = Child()
    with Guard(child, tmp_path, 100, 10, threading.Event()) as guard:
        for number in range(12):
            (tmp_path / str(number)).touch()
        wait_until(lambda: child.asked, timeout_s=10, what="the end")
    assert child.asked == [0.0]
    assert guard.excess == "it had made more than 10 files"


def test_a_cancel_is_no_excess_and_a_child_within_its_limits_is_left_alone(tmp_path: Path) -> None:
    child, cancel = Child(), threading.Event()
    with Guard(child, tmp_path, 100, 10, cancel) as guard:
        pass
    assert (child.asked, guard.excess) == ([], "")
    cancel.set()
    with Guard(child, tmp_path, 100, 10, cancel) as guard:
        wait_until(lambda: child.asked, timeout_s=10, what="the end")
    assert (len(child.asked), guard.excess) == (1, "")


def test_folders_deeper_than_paths_reach_do_not_hide_what_is_in_them(tmp_path: Path) -> None:
    child = Child()
    nest(tmp_path, "d" * 200, 30)
    with Guard(child, tmp_path, 100, 1000, threading.Event()) as guard:
        wait_until(lambda: child.asked, timeout_s=10, what="the end")
    assert guard.excess == "its files cannot be measured: File name too long"


def test_a_jobs_folder_is_removed_however_deep_a_child_has_nested_folders(tmp_path: Path) -> None:
    with job_folder(tmp_path) as folder:
        nest(folder, "d", 3 * sys.getrecursionlimit())
    assert not list(tmp_path.iterdir())
