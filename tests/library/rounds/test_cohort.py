"""Which sites fit, and which of them a round takes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.jobs.spec import Job, parse_job
from catchment.rounds.cohort import Candidate, cohort_size, invited, misfit, rule_of, sample_cohort, site_seed
from catchment.wire.messages import Registration, SiteResources
from tests.thread_sites import job as body


def a_job(**changes: Any) -> Job:
    return parse_job(body(**changes))


def site(name: str, *, online: bool = True, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "session": "session-1",
        "address": f"10.0.0.{len(name)}:1",
        "runtimes": ("pytorch",),
        "datasets": ("digits",),
        "entries": ("train",),
        "resources": SiteResources(cpu=4, memory_mb=4000, gpu=1),
        "allow_scripts": "never",
        **changes,
    }
    return Candidate(name, online, Registration(**fields))


def names(number: int) -> list[Candidate]:
    return [site(f"s{index:02d}") for index in range(number)]


# Who fits

SCRIPTS = {"path": "s", "config_file": "c.json"}
FITS: list[tuple[dict[str, Any], Candidate, str]] = [
    ({}, site("a"), ""),
    ({}, site("a", online=False), "is not connected"),
    ({"runtime": "keras"}, site("a"), "has no runtime keras"),
    ({"runtime": "keras"}, site("a", runtimes=("pytorch", "keras")), ""),
    ({"datasets": "digits"}, site("a"), ""),
    ({"datasets": "digits,faces"}, site("a"), "has no data set 'faces'"),
    ({"task_entry": "other"}, site("a"), "has no entry 'other'"),
    ({"task_entry": None, "scripts": SCRIPTS}, site("a"), "runs no sent scripts"),
    ({"task_entry": None, "scripts": SCRIPTS}, site("a", allow_scripts="listed"), ""),
    ({"task_entry": None, "scripts": SCRIPTS}, site("a", allow_scripts="always", entries=()), ""),
    ({"resource": {"cpu": 4.0}}, site("a"), ""),
    ({"resource": {"cpu": 4.1}}, site("a"), "offers 4 of cpu, the job needs 4.1"),
    ({"resource": {"cpu": 2, "worker_num": 3}}, site("a"), "offers 4 of cpu, the job needs 6"),
    ({"resource": {"gpu": 2}}, site("a"), "offers 1 of gpu, the job needs 2"),
    (
        {"resource": {"memory": 3000, "worker_num": 2}},
        site("a"),
        "offers 4000 MB of memory, the job needs 6000 MB",
    ),
]


@pytest.mark.parametrize(("changes", "candidate", "why"), FITS)
def test_a_site_fits_or_is_told_why_not(changes: dict[str, Any], candidate: Candidate, why: str) -> None:
    assert misfit(a_job(**changes), candidate) == why


def test_clients_name_sites_by_name_or_address() -> None:
    sites = [site("c", address="h:3"), site("a", address="h:1"), site("b", address="h:2")]
    hyper = {"client_num": 1, "threshold_client_num": 1}
    assert [each.name for each in invited(a_job(), sites)] == ["a", "b", "c"]
    for clients, wanted in (
        ("b", ["b"]),
        ("h:3,a", ["c", "a"]),
        ("a, h:1 ,a", ["a"]),
        ("unknown", []),
        ("unknown,b", ["b"]),
        ("h", []),
    ):
        job = a_job(clients=clients, hyper_parameters=hyper)
        assert [each.name for each in invited(job, sites)] == wanted, clients


def test_one_address_may_stand_for_several_sites() -> None:
    job = a_job(clients="h:1,x", hyper_parameters={"client_num": 2})
    assert [each.name for each in invited(job, [site("b", address="h:1"), site("a", address="h:1")])] == [
        "a",
        "b",
    ]


# Who takes part

ARGUMENTS = st.fixed_dictionaries(
    {
        "number": st.integers(0, 12),
        "client_num": st.integers(1, 8),
        "redundancy": st.floats(1.0, 2.0),
        "random_client": st.booleans(),
        "untrained_first": st.booleans(),
        "seed": st.integers(0, 2**63 - 1),
        "round_number": st.integers(1, 1000),
        "attempt": st.integers(0, 1),
    }
)


def drawn(given_arguments: dict[str, Any], **more: Any) -> tuple[Job, list[Candidate], list[str]]:
    job = a_job(
        redundancy=given_arguments["redundancy"],
        random_client=given_arguments["random_client"],
        untrained_first=given_arguments["untrained_first"],
        hyper_parameters={"client_num": given_arguments["client_num"], "threshold_client_num": 1},
    )
    fitting = names(given_arguments["number"])
    cohort = sample_cohort(
        job,
        fitting,
        **{
            "seed": given_arguments["seed"],
            "round_number": given_arguments["round_number"],
            "attempt": given_arguments["attempt"],
            "trained": {},
            **more,
        },
    )
    return job, fitting, cohort


@given(ARGUMENTS)
@settings(max_examples=100, deadline=None)
def test_a_cohort_is_a_sorted_choice_of_the_right_size(given_arguments: dict[str, Any]) -> None:
    job, fitting, cohort = drawn(given_arguments)
    assert cohort == sorted(set(cohort))
    assert set(cohort) <= {each.name for each in fitting}
    assert len(cohort) == min(len(fitting), cohort_size(job))
    assert cohort == drawn(given_arguments)[2], "the same for the same arguments"


@given(ARGUMENTS, st.dictionaries(st.sampled_from([f"s{i:02d}" for i in range(12)]), st.integers(0, 5)))
@settings(max_examples=100, deadline=None)
def test_who_has_trained_less_goes_first(given_arguments: dict[str, Any], trained: dict[str, int]) -> None:
    given_arguments = {**given_arguments, "untrained_first": True}
    _, fitting, cohort = drawn(given_arguments, trained=trained)
    left = {each.name for each in fitting} - set(cohort)
    if cohort and left:
        assert max(trained.get(name, 0) for name in cohort) <= min(trained.get(name, 0) for name in left)


@given(ARGUMENTS, st.sets(st.sampled_from([f"s{i:02d}" for i in range(12)])))
@settings(max_examples=100, deadline=None)
def test_who_has_just_failed_comes_last(given_arguments: dict[str, Any], failed: set[str]) -> None:
    trained = {f"s{i:02d}": i for i in range(12)}
    _, fitting, cohort = drawn(given_arguments, failed_before=frozenset(failed), trained=trained)
    left = {each.name for each in fitting} - set(cohort)
    if set(cohort) & failed:
        assert left <= failed, "a site that failed is taken only where no other is left"


def test_without_a_rule_the_order_decides() -> None:
    job = a_job(hyper_parameters={"client_num": 2})
    arguments: dict[str, Any] = {"seed": 1, "round_number": 1, "attempt": 0}
    chosen = sample_cohort(job, [site("z"), site("m"), site("a")], trained={"z": 9}, **arguments)
    assert chosen == ["m", "z"]


def test_chance_takes_every_site_about_equally_often() -> None:
    job = a_job(random_client=True, hyper_parameters={"client_num": 3})
    counts = dict.fromkeys((f"s{index:02d}" for index in range(6)), 0)
    for number in range(1, 401):
        for name in sample_cohort(job, names(6), seed=5, round_number=number, attempt=0, trained={}):
            counts[name] += 1
    assert sum(counts.values()) == 1200
    assert all(150 < count < 250 for count in counts.values())


def test_seed_round_and_attempt_change_the_draw() -> None:
    job = a_job(random_client=True, hyper_parameters={"client_num": 10})

    def draw(seed: int, number: int, attempt: int) -> tuple[str, ...]:
        return tuple(
            sample_cohort(job, names(40), seed=seed, round_number=number, attempt=attempt, trained={})
        )

    draws = {draw(1, 1, 0), draw(2, 1, 0), draw(1, 2, 0), draw(1, 1, 1)}
    assert len(draws) == 4


@pytest.mark.parametrize(
    ("client_num", "redundancy", "size"),
    [
        (1, 1.0, 1),
        (2, 1.5, 3),
        (3, 1.5, 5),
        (10, 1.1, 11),
        (3, 1.1, 4),
        (100, 1.15, 115),
        (7, 2.0, 14),
        (1, 1.001, 2),
    ],
)
def test_a_cohort_is_client_num_with_its_redundancy(client_num: int, redundancy: float, size: int) -> None:
    hyper = {"client_num": client_num, "threshold_client_num": 1}
    job = a_job(redundancy=redundancy, hyper_parameters=hyper)
    assert cohort_size(job) == size
    assert size <= math.ceil(2 * client_num)


def test_a_site_has_a_seed_of_its_own_in_every_round() -> None:
    seeds = {
        (seed, number, name): site_seed(seed, number, name)
        for seed in (0, 1, 2**63 - 1)
        for number in (1, 2, 11)
        for name in ("a", "b", "1", "11")
    }
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= value < 2**48 for value in seeds.values())
    assert site_seed(7, 3, "a") == site_seed(7, 3, "a")


def test_the_report_says_when_a_round_closes() -> None:
    job = a_job(redundancy=1.5, hyper_parameters={"client_num": 2, "threshold_client_num": 1})
    assert rule_of(job, 2) == "waits for all 2 sites until the deadline, needs at least 1"
    assert rule_of(job, 3) == "closes when 2 of 3 sites have delivered, or at the deadline with at least 1"
