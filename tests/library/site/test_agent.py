"""The agent as a process, against a coordinator over real HTTP."""

from __future__ import annotations

import io
import itertools
import os
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.site import processes
from catchment.wire.messages import SentScripts
from tests.library.site.conftest import TRAIN, AgentProcess
from tests.library.site.exchange_double import ExchangeDouble, digest_of

Start = Callable[..., AgentProcess]

SLEEP = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
mark = sys.argv[1]
code = "import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code, mark], start_new_session=True)
subprocess.Popen([sys.executable, "-c", code, mark], start_new_session=True, env={})
open(mark, "w").write("up")
print("asleep")
time.sleep(600)
"""


def alive(mark: str) -> list[int]:
    found = []
    for pid in (path.name for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            line = Path("/proc", pid, "cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line.split(b"\0"):
            found.append(int(pid))
    return found


def until(condition: Callable[[], object], timeout_s: float) -> None:
    """For what tells nobody when it happens: a process elsewhere that ends, a file that appears."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def test_a_work_is_fetched_trained_uploaded_and_forgotten(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order
) -> None:
    exchange.poll_s = 0.5
    add_entry("e", TRAIN, params={"--lr": 0.1, "-v": None})
    agent = start_agent()
    given = exchange.publish(order(parameters={"--epochs": 2, "--lr": 0.5}))
    result = exchange.result(given.work_id)
    assert result.status == "done", result
    assert result.update is not None
    assert digest_of(bytes(exchange.uploads[given.work_id])) == result.update.digest
    assert result.metrics == {"sample_num": 7, "argv": ["--lr", "0.5", "-v", "--epochs", "2"]}
    assert "trained" in result.log_tail
    exchange.until(lambda: exchange.polls[-1].holding == () and exchange.polls[-1].free == 1)
    assert agent.stop() == 0
    assert exchange.left == 1
    assert not list((agent.home / "work").iterdir())
    assert not list((agent.home / "outbox").iterdir())
    logs = [path.name for path in (agent.home / "logs").iterdir()]
    assert logs == [f"digits-{given.round}-train-{given.work_id}.log"]


def test_the_registration_says_what_the_site_has(
    exchange: ExchangeDouble, start_agent: Start, add_entry, tmp_path: Path
) -> None:
    add_entry("e", TRAIN)
    (tmp_path / "d").mkdir()
    datasets = tmp_path / "datasets.json"
    datasets.write_text('{"digits": "d"}')
    start_agent("--datasets", str(datasets), "--address", "10.0.0.1:55051", "--cpu", "3", "--gpu", "0")
    registration = exchange.until(lambda: exchange.registrations)[0]
    assert registration.entries == ("e",)
    assert registration.datasets == ("digits",)
    assert registration.address == "10.0.0.1:55051"
    assert registration.resources.cpu == 3
    assert "pytorch" in registration.runtimes


def test_a_script_that_fails_tells_its_last_words(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order
) -> None:
    add_entry("e", "print('x' * 50)\nraise ValueError('no data today')")
    start_agent()
    result = exchange.result(exchange.publish(order()).work_id)
    assert result.status == "failed"
    assert result.reason == "main.py ended with exit code 1: ValueError: no data today"
    assert "Traceback" in result.log_tail


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("pass", "committed no weights: call fl.commit_weights(model)"),
        (TRAIN.replace("ones_like(value)", "full_like(value, np.nan)"), "holds NaN or infinite values"),
        (TRAIN.replace("ones_like(value)", "ones((9, 9), np.float32)"), "wrong shape: "),
        (TRAIN + "\n(folder / 'update.safetensors').write_bytes(b'rubbish' * 9)", "cannot be used"),
        (TRAIN + "\n(folder / 'metrics.json').write_text('[1]')", "metrics.json holds no JSON object"),
    ],
)
def test_what_cannot_be_used_fails_at_the_site(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order, source: str, reason: str
) -> None:
    add_entry("e", source)
    start_agent()
    result = exchange.result(exchange.publish(order()).work_id)
    assert result.status == "failed"
    assert reason in result.reason


def test_cancel_ends_the_script_and_all_that_it_started(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order, tmp_path: Path
) -> None:
    mark = str(tmp_path / "mark")
    add_entry("e", SLEEP, params={mark: None})
    agent = start_agent()
    given = exchange.publish(order())
    until(Path(mark).exists, 15)
    assert len(alive(mark)) == 3
    begun = time.monotonic()
    polls = len(exchange.polls)
    exchange.cancel(given.work_id)
    until(lambda: not alive(mark), 5)
    assert time.monotonic() - begun < 5
    assert len(exchange.polls) < polls + 5, "while it dies there is nothing to ask for"
    exchange.until(lambda: exchange.polls[-1].holding == () and exchange.polls[-1].free == 1)
    assert given.work_id not in exchange.results
    assert not list((agent.home / "work").iterdir())


def test_sigterm_ends_the_agent_and_its_scripts_within_five_seconds(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order, tmp_path: Path
) -> None:
    mark = str(tmp_path / "mark")
    add_entry("e", SLEEP, params={mark: None})
    agent = start_agent()
    exchange.publish(order())
    until(Path(mark).exists, 15)
    begun = time.monotonic()
    assert agent.stop(signal.SIGINT) == 0
    assert time.monotonic() - begun < 5
    assert not alive(mark)
    assert exchange.left == 1


def test_an_agent_that_was_killed_does_its_work_again(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order, tmp_path: Path
) -> None:
    mark = str(tmp_path / "mark")
    add_entry("e", SLEEP, params={mark: None})
    agent = start_agent()
    given = exchange.publish(order())
    until(Path(mark).exists, 15)
    agent.kill()
    until(lambda: not alive(mark), 5)
    add_entry("e", TRAIN)
    start_agent()
    assert exchange.result(given.work_id).status == "done"
    assert exchange.given == [given.work_id]


def test_a_restarted_agent_forgets_what_is_no_longer_wanted(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order, tmp_path: Path
) -> None:
    mark = str(tmp_path / "mark")
    add_entry("e", SLEEP, params={mark: None})
    agent = start_agent()
    given = exchange.publish(order())
    until(Path(mark).exists, 15)
    agent.kill()
    Path(mark).unlink()
    exchange.cancel(given.work_id)
    again = start_agent()
    exchange.until(lambda: len(exchange.registrations) == 2 and exchange.polls[-1].holding == ())
    assert again.stop() == 0
    assert not Path(mark).exists()
    assert not list((again.home / "work").iterdir())


def test_a_full_outbox_survives_a_restart(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order
) -> None:
    add_entry("e", TRAIN)
    exchange.refuse["PUT /update"] = (500, "the disk is full")
    agent = start_agent()
    given = exchange.publish(order())
    until(lambda: list((agent.home / "outbox").glob("*")), 15)
    agent.kill()
    del exchange.refuse["PUT /update"]
    start_agent()
    assert exchange.result(given.work_id).status == "done"
    assert exchange.given == [given.work_id]


def test_an_agent_waits_for_a_server_that_is_away(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order
) -> None:
    add_entry("e", TRAIN)
    port = exchange.port
    exchange.stop()
    agent = start_agent()
    until(lambda: "coordinator is away" in agent.words(), 10)
    exchange.sessions = set()
    exchange.start(port)
    given = exchange.publish(order())
    assert exchange.result(given.work_id).status == "done"
    exchange.sessions = set()  # the coordinator has forgotten the site
    exchange.until(lambda: len(exchange.registrations) >= 2)
    second = exchange.publish(order())
    assert exchange.result(second.work_id).status == "done"
    assert agent.words().count("coordinator is away") <= 2


def test_one_slot_takes_two_jobs_in_turn(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order
) -> None:
    add_entry("e", TRAIN + "\nimport time; print(time.time())")
    start_agent()
    works = [exchange.publish(order(job_id=f"job-{number}")) for number in range(3)]
    begun = time.monotonic()
    results = [exchange.result(work.work_id) for work in works]
    assert all(result.status == "done" for result in results)
    assert time.monotonic() - begun < exchange.poll_s + 4, "a free slot must not wait for the poll's end"
    spans = sorted((result.started_at, result.started_at + result.seconds) for result in results)
    assert all(earlier[1] <= later[0] + 0.05 for earlier, later in itertools.pairwise(spans))
    assert max(len(poll.holding) for poll in exchange.polls) <= 3


def test_the_token_reaches_neither_script_nor_log(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order, tmp_path: Path
) -> None:
    exchange.token = "s3cret-t0ken"
    token = tmp_path / "token"
    token.write_text("s3cret-t0ken\n")
    add_entry("e", "import os; print(sorted(os.environ.items())); raise SystemExit('end')")
    secret = {"CATCHMENT_TOKEN": "s3cret-t0ken", "PREFECT_API_KEY": "s3cret-t0ken"}
    agent = start_agent("--token-file", str(token), "--verbose", env=secret)
    result = exchange.result(exchange.publish(order()).work_id)
    assert "CATCHMENT_TASK" in result.log_tail
    assert "s3cret" not in result.log_tail
    assert agent.stop() == 0
    assert "s3cret" not in agent.words()
    for path in agent.home.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()


@pytest.mark.parametrize(("status", "code"), [(401, 3), (403, 3), (400, 4)])
def test_a_refused_agent_ends_with_a_code_and_the_reason(
    exchange: ExchangeDouble, start_agent: Start, status: int, code: int
) -> None:
    exchange.refuse["POST /register"] = (status, "not with us")
    agent = start_agent()
    assert agent.process.wait(timeout=10) == code
    assert "not with us" in agent.words()


def test_two_agents_never_share_a_home(exchange: ExchangeDouble, start_agent: Start) -> None:
    start_agent()
    exchange.until(lambda: exchange.registrations)
    second = start_agent()
    assert second.process.wait(timeout=10) == 2
    assert "another agent runs in" in second.words()


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize("policy", ["never", "listed", "listed-wrong", "always"])
def test_sent_scripts_run_as_the_sites_policy_says(
    exchange: ExchangeDouble, start_agent: Start, order, tmp_path: Path, policy: str
) -> None:
    archive = zipped({"config.json": '{"train": {"entry": "src/main.py"}}', "src/main.py": TRAIN})
    blob = exchange.add_blob(archive)
    listed = tmp_path / "listed"
    listed.write_text(f"# reviewed\n{blob.digest if policy == 'listed' else 'sha256:' + '0' * 64}  # me\n")
    options = ["--allow-scripts", policy.partition("-")[0]]
    start_agent(*options, *(["--allowed-scripts", str(listed)] if "listed" in policy else []))
    scripts = SentScripts(archive=blob, config_file="config.json", folder="job")
    result = exchange.result(exchange.publish(order(None, scripts=scripts)).work_id)
    if policy in ("listed", "always"):
        assert result.status == "done", result
    else:
        assert result.status == "failed"
        assert ("is not listed" if policy == "listed-wrong" else "runs no sent scripts") in result.reason
        assert not any(digest == blob.digest for digest, _ in exchange.blob_requests)


def test_what_the_site_does_not_have_is_named(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order, entries: Path
) -> None:
    add_entry("e", TRAIN)
    (entries / "half.json").write_text('{"train": {"entry": "x.py"}}')
    (entries / "broken.json").write_text('{"train": {"entry": 5}}')
    start_agent("--max-task-parallelism", "-1", "--gpu", "0")
    cases = {
        "no task entry 'other'; it has: broken, e, half": order("other"),
        "no part 'evaluate'; it has train": order("half", kind="evaluate"),
        "broken.json: train.entry: Input should be a valid string": order("broken"),
        "entry 'x.py' is no file": order("half"),
        "no data set 'faces'; it has: none": order(datasets=("faces",)),
        "asks for 2 GPUs at a site, this site has 0": order(resource={"gpu": 2}),
        "no task entry '../e'": order("../e"),
    }
    for work in cases.values():
        exchange.publish(work)
    for reason, work in cases.items():
        result = exchange.result(work.work_id)
        assert result.status == "failed"
        assert reason in result.reason


def test_leftovers_are_found_by_their_mark() -> None:
    assert os.getpid() not in processes.marked(f"PATH={os.environ['PATH']}")


def test_results_wait_out_a_conflict_and_are_sent_again(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order
) -> None:
    add_entry("e", TRAIN)
    exchange.refuse["POST /result"] = (409, "the update has not arrived")
    start_agent()
    given = exchange.publish(order())
    exchange.until(lambda: exchange.refused)
    del exchange.refuse["POST /result"]
    assert exchange.result(given.work_id).status == "done"


def test_a_warm_agent_trains_with_the_sdk(
    exchange: ExchangeDouble, start_agent: Start, add_entry, order
) -> None:
    source = (
        "import catchment.sdk as fl, torch\nmodel = torch.nn.Module()\n"
        "model.w = torch.nn.Parameter(torch.ones(3, 2))\nmodel.b = torch.nn.Parameter(torch.ones(2))\n"
        "fl.load_weights(model)\nwith torch.no_grad(): model.w += 2\n"
        "fl.commit({'sample_num': 3}, model)\n"
    )
    add_entry("e", source)
    agent = start_agent("--runtime", "pytorch", cold=False)
    rounds = [exchange.publish(order()) for _ in range(3)]
    results = [exchange.result(given.work_id, 60) for given in rounds]
    assert [result.status for result in results] == ["done"] * 3, results
    assert results[2].seconds < 2
    assert agent.words().count("warm=True") == 3
    assert agent.stop() == 0
    assert "Traceback" not in agent.words()
