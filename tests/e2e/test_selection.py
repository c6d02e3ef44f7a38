"""A round with redundancy through the whole system: the slow site's script ends, and its log says why."""

from __future__ import annotations

from tests.conftest import wait_until
from tests.e2e.conftest import end_group, processes_with


def test_a_stragglers_script_is_stopped_and_its_log_says_why(system):
    straggler = system.add_site("straggler")
    log = system.home / "more" / "straggler" / "site.log"
    job_id = system.start(
        id="surplus",
        clients="site-1,site-2,straggler",
        redundancy=1.5,
        parameters={"--mode": "hang-training", "--only": "straggler"},
        hyper_parameters={"max_round_num": 1, "round_timeout": 600},
    )
    wait_until(lambda: system.rounds(job_id), timeout_s=40, what="the round")
    assert system.wait_for(job_id)["status"]["state"] == "FINISHED"
    (report,) = system.rounds(job_id)
    assert report["rule"] == "closes when 2 of 3 sites have delivered, or at the deadline with at least 2"
    outcomes = {site["site"]: (site["outcome"], site["reason"]) for site in report["sites"]}
    assert outcomes == {
        "site-1": ("admitted", ""),
        "site-2": ("admitted", ""),
        "straggler": ("late", "the round closed without it"),
    }
    wait_until(lambda: not processes_with("catchment-test-hang"), timeout_s=15, what="the script's end")
    wait_until(
        lambda: "reason='the round closed without it'" in log.read_text(), timeout_s=10, what="the log's word"
    )
    end_group(straggler)
