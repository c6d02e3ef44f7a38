"""What leaves a site under secure aggregation, and which conversations outlive their work."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from catchment.errors import PolicyRefused, ProtocolRefused, SiteError, Unreachable
from catchment.models.tensors import write_tensors
from catchment.secagg.keys import Identity
from catchment.secagg.messages import Roster
from catchment.site.identity import KnownIdentities
from catchment.site.secure import SecureSession
from catchment.site.secure_sessions import SecureSessions
from catchment.site.work import Work
from catchment.wire.messages import WorkOrder, WorkResult

DIGEST = "sha256:" + "0" * 64


def order(**changes: object) -> WorkOrder:
    plan = {"session": "s", "mode": "doublemask", "cohort": ["a", "b"], "threshold": 2}
    given = {
        "work_id": "w",
        "kind": "train",
        "namespace": "n",
        "job_id": "j",
        "run": 1,
        "round": 1,
        "attempt": 0,
        "runtime": "pytorch",
        "weights": {"digest": DIGEST, "size_bytes": 1},
        "seed": 1,
        "timeout_s": 5.0,
        "secure": {"plan": plan, "clip_value": 8.0, "sample_cap": 100},
    }
    return WorkOrder.model_validate({**given, **changes})


class Silent:
    """A coordinator that never answers; it notes that it was asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def abort(self) -> None:
        return None

    def say_secure(self, *_: object) -> None:
        self.asked.set()
        raise Unreachable("nobody there")


@pytest.fixture
def silent() -> Silent:
    return Silent()


def sessions(
    folder: Path, silent: Silent, *, send_logs: bool = False, required: bool = False
) -> SecureSessions:
    known = KnownIdentities(folder / "known.json")
    identity = Identity.generate()

    def open_session(of: WorkOrder) -> SecureSession:
        return SecureSession(of, "a", identity, known, 2, lambda: silent)  # type: ignore[arg-type,return-value]

    return SecureSessions(open_session, send_logs=send_logs, required=required)


def work_of(folder: Path, given: WorkOrder) -> Work:
    work = Work.accept(folder, given)
    work.task_folder.mkdir()
    for name in ("update", "weights"):
        write_tensors(work.task_folder / f"{name}.safetensors", {"w": np.zeros(3, np.float32)})
    return work


def test_an_update_whose_keys_were_not_agreed_does_not_leave(tmp_path: Path, silent: Silent) -> None:
    given = order(timeout_s=0.2)
    found = sessions(tmp_path, silent)
    found.begin(given)
    assert silent.asked.wait(5)
    result = WorkResult(status="done", metrics={"sample_num": 3})
    with pytest.raises(SiteError, match="did not agree on keys in time"):
        found.finish(work_of(tmp_path, given), result)
    found.stop()


def test_a_work_that_is_called_off_ends_its_conversation(tmp_path: Path, silent: Silent) -> None:
    given = order()
    found = sessions(tmp_path, silent)
    found.begin(given)
    assert silent.asked.wait(5)
    session = found._sessions["w"]
    found.drop("w")
    session._thread.join(10)
    assert session.is_over


def test_a_conversation_about_a_masked_update_is_not_called_off(tmp_path: Path, silent: Silent) -> None:
    given = order()
    found = sessions(tmp_path, silent)
    found.begin(given)
    session = found._sessions["w"]
    session._masked = True
    found.drop("w")
    assert not session._over
    found.stop()
    session._thread.join(10)
    assert session.is_over


@pytest.mark.parametrize("send_logs", [False, True])
def test_output_and_last_words_of_a_script_stay_at_the_site(
    tmp_path: Path, silent: Silent, send_logs: bool
) -> None:
    reason = "train.py ended with exit code 1: KeyError: 'patient 42'"
    given = order(kind="evaluate")
    result = WorkResult(
        status="failed", reason=reason, log_tail="patient 42", metrics={"loss": 1.0}, parameters={"p": 42}
    )
    left = sessions(tmp_path, silent, send_logs=send_logs).finish(work_of(tmp_path, given), result)
    assert left.parameters == {}
    assert ("patient 42" in left.reason, "patient 42" in left.log_tail) == (send_logs, send_logs)
    assert left.reason.startswith("train.py ended with exit code 1")
    assert left.metrics == {"loss": 1.0}


def test_a_failed_training_tells_no_metrics(tmp_path: Path, silent: Silent) -> None:
    result = WorkResult(status="failed", reason="why", metrics={"sample_num": 42})
    left = sessions(tmp_path, silent).finish(work_of(tmp_path, order()), result)
    assert left.metrics == {}
    assert left.reason == "why"


def test_a_plain_job_is_untouched_unless_the_site_asks_for_masks(tmp_path: Path, silent: Silent) -> None:
    given = order(secure=None)
    result = WorkResult(status="done", metrics={"loss": 1.0}, log_tail="x")
    found = sessions(tmp_path, silent)
    found.check(given)
    assert found.finish(work_of(tmp_path, given), result) == result
    strict = sessions(tmp_path, silent, required=True)
    strict.check(order())
    strict.check(order(secure=None, kind="evaluate"))
    with pytest.raises(PolicyRefused, match="SSA only"):
        strict.check(given)


def noised(mode: str, threshold: int, sharers: int) -> WorkOrder:
    noise = {"clip_norm": 1.0, "noise_multiplier": 1.0, "sharers": sharers}
    plan = {"session": "s", "mode": mode, "cohort": ["a", "b", "c"], "threshold": threshold}
    return order(secure={"plan": plan, "clip_value": 8.0, "sample_cap": 1, "noise": noise})


def test_a_site_that_noises_takes_part_in_no_sum_with_less_noise_than_promised(tmp_path: Path) -> None:
    """Also with one mask, where the protocol itself would take any two."""
    given = noised("onemask", 3, 3)
    clients = []
    for name in "ab":
        known = KnownIdentities(tmp_path / f"known-{name}.json")
        session = SecureSession(given, name, Identity.generate(), known, 2, Silent)  # type: ignore[arg-type]
        clients.append(session._make())
    roster = Roster(parties=tuple(client.advertise() for client in clients))
    with pytest.raises(ProtocolRefused, match="2 parties have keys, at least 3 are needed"):
        clients[0].mask(np.zeros(8, np.uint32), roster=roster)


def test_an_order_that_lets_fewer_unmask_than_share_the_noise_is_malformed() -> None:
    with pytest.raises(ValidationError, match="bring the whole noise"):
        noised("doublemask", 2, 3)
