"""A job with `ssl` on a system that is reached over TLS, as a user sets it up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catchment.client import Client
from catchment.tls.authority import Authority
from tests.certificates import authority, sign
from tests.conftest import ROOT, users_environment, wait_until
from tests.e2e.conftest import ENDED, _make_small_job_files, end_group, small_job


@contextmanager
def secure_system(home: Path, tls: Authority) -> Iterator[Client]:
    """`catchment up --tls` with two sites."""
    with home.with_name("up.log").open("wb") as log:
        up = subprocess.Popen(
            [
                *(sys.executable, "-m", "catchment.cli", "up", "--home", str(home), "--sqlite"),
                *("--api-port", "0", "--prefect-port", "0", "--sites", "2", "--tls", str(tls.folder)),
            ],
            cwd=ROOT,
            env=users_environment(CATCHMENT_COHORT_WAIT_S="2"),
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert up.stdout is not None
        try:
            line = up.stdout.readline().decode()
            assert line.startswith("ready https://"), home.with_name("up.log").read_text()
            with Client(line.split()[1], ca_file=tls.ca.certificate) as client:
                yield client
        finally:
            code = end_group(up, timeout_s=30)
            up.stdout.close()
    assert code == 0


def test_a_secured_job_runs_at_the_sites_that_it_trusts(tmp_path: Path) -> None:
    tls, foreign = authority(tmp_path / "tls"), authority(tmp_path / "foreign")
    home = tmp_path / "home"
    files = home / "namespaces" / "default"
    with secure_system(home, tls) as client:
        assert [site.document["mutual_tls"] for site in client.list_sites()] == [True, True]
        _make_small_job_files(files / "small")
        for name, trusted in (("ours", tls), ("theirs", foreign)):
            pair = sign(trusted.ca, "coordinator").write(files / name, "x")
            pair.certificate.rename(files / name / "cert.pem")
            pair.key.rename(files / name / "private.key")
            (files / name / "trusted.pem").write_bytes(trusted.ca.certificate.read_bytes())
            client.create_job("default", small_job(id=name, ssl=name), start=True)
        for name in ("ours", "theirs"):
            wait_until(lambda: state(client, name)[0] in ENDED, timeout_s=90, what=f"job {name} to end")  # noqa: B023
        assert state(client, "ours") == ("FINISHED", "")
        ended, reason = state(client, "theirs")
        assert ended == "FAILED"
        assert "site-1 has a certificate that the job's trusted.pem does not vouch for" in reason


def state(client: Client, name: str) -> tuple[str, str]:
    status = client.get_job("default", name).document["status"]
    return status["state"], status["reason"]
