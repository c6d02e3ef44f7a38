"""The figures of an agent: real works, read from its own port."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from catchment.wire.messages import WorkOrder
from tests.conftest import wait_until
from tests.library.site.conftest import TRAIN, AgentProcess
from tests.library.site.exchange_double import ExchangeDouble


def port_of(agent: AgentProcess) -> int:
    def told() -> int:
        found = re.search(r"figures are served at http://127\.0\.0\.1:(\d+)/metrics", agent.words())
        return int(found[1]) if found else 0

    return int(str(wait_until(told, timeout_s=30, what="the port of the figures")))


def scraped(port: int) -> dict[tuple[str, ...], float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_agent_tells_what_its_works_came_to(
    exchange: ExchangeDouble,
    start_agent: Callable[..., AgentProcess],
    add_entry: Callable[..., None],
    order: Callable[..., WorkOrder],
) -> None:
    add_entry("e", TRAIN)
    agent = start_agent("--metrics-port", "0")
    port = port_of(agent)
    for _ in range(2):
        work = exchange.publish(order())
        assert exchange.result(work.work_id, 60).status == "done"
    wait_until(
        lambda: scraped(port).get(("catchment_site_works_total", "train", "done")) == 2,
        timeout_s=20,
        what="two works",
    )
    found = scraped(port)
    assert found["catchment_site_script_seconds_count", "train"] == 2
    assert found["catchment_site_cache_lookups_total", "miss"] == 1
    assert found["catchment_site_cache_lookups_total", "hit"] == 1
    assert found["catchment_site_cache_bytes",] == found["catchment_site_bytes_total", "down"] > 0
    assert found["catchment_site_bytes_total", "up"] > 0
    assert found["catchment_site_coordinator_up",] == 1
    assert agent.stop() == 0


def test_an_agent_opens_no_port_by_itself(
    exchange: ExchangeDouble, start_agent: Callable[..., AgentProcess]
) -> None:
    agent = start_agent()
    exchange.until(lambda: exchange.polls)
    inodes = {
        found[1]
        for entry in (f"/proc/{agent.process.pid}/fd/{number}" for number in range(256))
        if (found := _socket_of(entry)) is not None
    }
    listening = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    assert inodes, "it has its connection to the coordinator"
    assert not inodes & listening


def _socket_of(entry: str) -> re.Match[str] | None:
    try:
        return re.fullmatch(r"socket:\[(\d+)\]", str(Path(entry).readlink()))
    except OSError:
        return None


def test_a_coordinator_that_is_away_is_told(
    exchange: ExchangeDouble, start_agent: Callable[..., AgentProcess]
) -> None:
    agent = start_agent("--metrics-port", "0")
    exchange.until(lambda: exchange.polls)
    port = port_of(agent)
    wait_until(
        lambda: scraped(port)["catchment_site_coordinator_up",] == 1, timeout_s=20, what="a coordinator"
    )
    exchange.refuse["POST /poll"] = (503, "away")
    wait_until(lambda: scraped(port)["catchment_site_coordinator_up",] == 0, timeout_s=20, what="an outage")


def test_a_port_that_is_taken_ends_the_agent_with_a_sentence(
    exchange: ExchangeDouble, start_agent: Callable[..., AgentProcess]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        agent = start_agent("--metrics-port", str(taken.getsockname()[1]))
        assert agent.process.wait(timeout=30) == 2
    assert "figures cannot be served" in agent.words()
