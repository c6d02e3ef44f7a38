"""What is written about the figures, asked for by the dashboard and by the alerts, is what the code has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api.figures import ApiFigures, Scrape
from catchment.model_server.metrics import Metrics
from catchment.observe.registry import Family
from catchment.observe.site import SiteFigures
from catchment.settings import Settings
from catchment.store import migrate, open_store
from tests.conftest import ROOT

NAME = re.compile(r"\b((?:catchment|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
OTHERS = {"instance", "job"}
"""Labels that Prometheus adds."""


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    """All metrics of all processes, with the labels that they have for sure."""

    class Idle:
        failure = None
        alive = failures = 0

    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home)
    migrate(settings)
    store = open_store(settings)
    try:
        api, site, server = ApiFigures(), SiteFigures(), Metrics("m", "1")
        scrape = Scrape(api, store, Idle(), Idle())  # type: ignore[arg-type]
        site.watch(int, int, home, home)
        found = [*api.registry.families, *scrape.families, *site.registry.families]
        known = {family.name: family for family in found}
        for family in server.registry.families:
            labels = ("model", "version", *family.labels)
            known[family.name] = Family(family.name, family.kind, family.help, labels)
        return known
    finally:
        store.close()


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of a query, each with the labels that its selector names."""
    for name, selector in NAME.findall(expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))


def family_of(name: str, families: dict[str, Family]) -> Family | None:
    if name in families:
        return families[name]
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    found = families.get(base)
    return found if found is not None and found.kind == "histogram" else None


def wrong(expression: str, families: dict[str, Family]) -> list[str]:
    """What a query asks for that there is not."""
    problems, labels = [], set()
    for name, selected in asked(expression):
        family = family_of(name, families)
        if family is None:
            problems.append(f"there is no {name}")
            continue
        known = {*family.labels, *OTHERS, *(["le"] if family.kind == "histogram" else [])}
        labels |= known
        problems += [f"{name} has no label {label}" for label in selected - known]
        if family.kind == "histogram" and name == family.name:
            problems.append(f"{name} is a histogram: _bucket, _sum or _count")
        if family.kind == "gauge" and re.search(rf"(rate|increase)\({name}\b", expression):
            problems.append(f"{name} is a gauge and has no rate")
        if family.kind == "counter" and not re.search(rf"(rate|increase)\({name}\b", expression):
            problems.append(f"{name} is a counter and means little by itself")
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        problems += [
            f"nothing has a label {each}" for each in re.split(r",\s*", grouped) if each not in labels
        ]
    return problems


def test_the_dashboard_asks_for_what_there_is(families: dict[str, Family]) -> None:
    board = json.loads((ROOT / "deployments/grafana/catchment.json").read_text())
    targets = [(panel["title"], target) for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(targets) > 30
    problems = {title: found for title, target in targets if (found := wrong(target["expr"], families))}
    assert not problems
    for title, target in targets:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
        assert shown <= grouped, title
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboard_shows_every_metric_of_ours(families: dict[str, Family]) -> None:
    text = (ROOT / "deployments/grafana/catchment.json").read_text()
    shown = {found.name for name, _ in asked(text) if (found := family_of(name, families)) is not None}
    told_elsewhere = {
        "catchment_build_info",
        "catchment_serving_model_info",
        "catchment_serving_ready",
        "catchment_serving_in_flight",
        "catchment_serving_running",
        "process_open_fds",
        "process_start_time_seconds",
    }
    assert set(families) - shown == told_elsewhere


def test_alerts_ask_for_what_there_is(families: dict[str, Family]) -> None:
    (group,) = yaml.safe_load((ROOT / "deployments/prometheus/alerts.yml").read_text())["groups"]
    problems = {rule["alert"]: found for rule in group["rules"] if (found := wrong(rule["expr"], families))}
    assert not problems
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in group["rules"])
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names)) >= 12


def test_a_query_that_asks_for_what_there_is_not_is_found(families: dict[str, Family]) -> None:
    assert wrong("catchment_nothing", families)
    assert wrong('catchment_jobs{phase="x"}', families)
    assert wrong("sum by (nope) (catchment_jobs)", families)
    assert wrong("rate(catchment_jobs[5m])", families)
    assert wrong("catchment_rounds_total", families)
    assert not wrong('max by (state) (catchment_jobs{state="RUNNING"})', families)


def test_the_scrape_example_names_the_jobs_that_the_alerts_mean() -> None:
    config = yaml.safe_load((ROOT / "deployments/prometheus/prometheus.yml").read_text())
    names = {job["job_name"] for job in config["scrape_configs"]}
    assert config["rule_files"] == ["alerts.yml"]
    for path in Path(ROOT / "deployments").glob("*/*"):
        if path.suffix in (".json", ".yml"):
            assert set(re.findall(r'job=\\?"([\w-]+)\\?"', path.read_text())) <= names


def test_the_table_of_metrics_is_complete(families: dict[str, Family]) -> None:
    text = (ROOT / "docs/observability.md").read_text()
    rows = re.findall(
        r"^\| `((?:catchment|process)_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", text, re.MULTILINE
    )
    ours = {name: row for name, *row in rows if not name.startswith("catchment_gateway_")}
    assert set(ours) == set(families)
    for name, (kind, labels, words) in ours.items():
        family = families[name]
        assert (kind, words) == (family.kind, family.help), name
        assert tuple(re.findall(r"`(\w+)`", labels)) == family.labels, name


def test_the_gateways_metrics_are_in_the_table() -> None:
    counting = pytest.importorskip("catchment.serving.gateway.counting", reason="there is no gateway yet")
    made = counting.Counting()
    made.event("retried")
    made.answered(("n", "s"), type("Place", (), {"key": "k", "uid": "u"})(), 200, 0.1)
    text = (ROOT / "docs/observability.md").read_text()
    listed = set(re.findall(r"^\| `(catchment_gateway_\w+)`", text, re.MULTILINE))
    assert listed == {sample.name for sample in made.samples()}
