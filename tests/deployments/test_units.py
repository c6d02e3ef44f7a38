"""The systemd unit of a site's agent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SITE = ROOT / "deployments" / "site"
UNIT = SITE / "systemd" / "catchment-site.service"
MOST_EXPOSURE = 40
"""Tenths, as systemd counts: it charges for the namespaces of scripts' sandboxes, and for the network."""


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    program = Path(sys.executable).with_name("catchment")
    here.write_text(UNIT.read_text().replace("/opt/catchment/bin/catchment", str(program)))
    said = subprocess.run(
        ["systemd-analyze", "verify", here], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in said.stderr.splitlines() if UNIT.stem in line]
    assert (said.returncode, ours) == (0, []), said.stderr


@pytest.mark.needs("systemd-analyze")
def test_the_unit_exposes_little() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSURE}", "--no-pager"]
    said = subprocess.run([*command, UNIT], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout


def test_the_filter_of_the_container_leaves_what_sandboxes_are_made_of() -> None:
    profile = json.loads((SITE / "compose" / "seccomp.json").read_text())
    (refused,) = profile["syscalls"]
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert refused["action"] == "SCMP_ACT_ERRNO"
    needed = {
        "unshare",
        "clone",
        "clone3",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "mount_setattr",
        "prctl",
    }
    assert not needed & set(refused["names"])
    assert {"kexec_load", "bpf", "init_module", "ptrace", "keyctl", "reboot"} <= set(refused["names"])
