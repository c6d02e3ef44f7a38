"""Files and parameters between the coordinator and a script: prepared ones down, handed over ones up."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest

from tests.library.site.conftest import AgentProcess
from tests.library.site.exchange_double import ExchangeDouble, digest_of

Start = Callable[..., AgentProcess]

SCRIPT = """
import os, sys
import numpy as np
from safetensors.numpy import load_file, save_file
import catchment.sdk as fl
folder = os.path.dirname(os.environ["CATCHMENT_TASK"])
fl.put_file("echo", fl.get_file("table") + repr(fl.get_parameters()).encode())
fl.put_file("big", np.arange(3_000_000, dtype="u1").tobytes())
fl.put_parameter("rate", fl.get_parameter("rate") * 2)
EXTRA
save_file(load_file(folder + "/weights.safetensors"), folder + "/update.safetensors")
fl.commit_metrics({"sample_num": 1})
"""


@pytest.fixture
def give(exchange: ExchangeDouble, start_agent: Start, add_entry, order) -> Callable[..., object]:
    """Has an agent run the script with more lines in it; the result of its work, and the work's id."""

    def give(extra: str = "", **changes: object) -> tuple[object, str]:
        exchange.poll_s = 0.5
        add_entry("e", SCRIPT.replace("EXTRA", extra))
        table = exchange.add_blob(b"one,two ")
        start_agent()
        values = {"prepared": {"table": table}, "prepared_parameters": {"rate": 4}, "files_wanted": True}
        given = exchange.publish(order(**{**values, **changes}))
        return exchange.result(given.work_id), given.work_id

    return give


def test_files_come_prepared_and_go_back_as_one_archive(exchange: ExchangeDouble, give) -> None:
    result, work_id = give()
    assert result.status == "done", result
    assert result.parameters == {"rate": 8}
    data = bytes(exchange.uploads[f"{work_id}/files"])
    assert (digest_of(data), len(data)) == (result.files.digest, result.files.size_bytes)
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        assert zipped.namelist() == ["big", "echo"]
        assert zipped.read("echo") == b"one,two {'rate': 4}"
        assert len(zipped.read("big")) == 3_000_000


def test_files_that_nobody_wants_stay_at_the_site(exchange: ExchangeDouble, give) -> None:
    result, work_id = give(files_wanted=False)
    assert result.status == "done", result
    assert result.files is None
    assert f"{work_id}/files" not in exchange.uploads


def test_what_is_no_plain_file_is_not_sent(exchange: ExchangeDouble, give) -> None:
    result, _ = give('os.symlink("/etc/passwd", folder + "/result/stolen")')
    assert result.status == "failed"
    assert "result/stolen is no plain file" in result.reason


def test_refused_files_become_a_failed_result(exchange: ExchangeDouble, give) -> None:
    exchange.refuse["PUT /files"] = (409, "1000 bytes at most")
    result, _ = give()
    assert result.status == "failed"
    assert "refused the update or files: 409 1000 bytes at most" in result.reason


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "a\0b"])
def test_no_order_can_name_a_file_outside_of_its_folder(exchange: ExchangeDouble, order, name: str) -> None:
    with pytest.raises(ValueError, match="no plain file name"):
        order(prepared={name: exchange.add_blob(b"x")})
