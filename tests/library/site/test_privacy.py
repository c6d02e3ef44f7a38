"""An agent whose orders ask for differential privacy at the site: what leaves is clipped and noised."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load, save

from catchment.wire.messages import SitePrivacy
from tests.library.site.conftest import TRAIN, AgentProcess
from tests.library.site.exchange_double import ExchangeDouble, digest_of

Start = Callable[..., AgentProcess]

SIZE = 40_000


@pytest.fixture
def weights() -> bytes:
    return save({"w": np.zeros(SIZE, np.float32), "steps": np.array(5)})


def sent(exchange: ExchangeDouble, start_agent: Start, add_entry, order, privacy: SitePrivacy) -> dict:
    add_entry("e", TRAIN)
    agent = start_agent()
    given = exchange.publish(order(privacy=privacy))
    result = exchange.result(given.work_id)
    assert result.status == "done", result
    assert result.update is not None
    uploaded = bytes(exchange.uploads[given.work_id])
    assert digest_of(uploaded) == result.update.digest
    assert agent.stop() == 0
    return load(uploaded)


def test_what_leaves_is_clipped_and_noised(exchange, start_agent, add_entry, order) -> None:
    update = sent(exchange, start_agent, add_entry, order, SitePrivacy(clip_norm=20.0, noise_std=2.0))
    clipped = 20.0 / np.sqrt(SIZE)  # from 1 on each element
    assert update["w"].mean() == pytest.approx(clipped, abs=6 * 2.0 / np.sqrt(SIZE))
    assert update["w"].std() == pytest.approx(2.0, rel=0.03)
    assert update["w"].dtype == np.float32
    assert update["steps"] == 0


def test_without_noise_it_is_clipped_alone(exchange, start_agent, add_entry, order) -> None:
    update = sent(exchange, start_agent, add_entry, order, SitePrivacy(clip_norm=20.0))
    np.testing.assert_allclose(update["w"], 20.0 / np.sqrt(SIZE), rtol=1e-6)


def test_noise_that_no_tensor_can_hold_fails_the_work_and_nothing_leaves(
    exchange, start_agent, add_entry, order
) -> None:
    add_entry("e", TRAIN)
    agent = start_agent()
    given = exchange.publish(order(privacy=SitePrivacy(noise_std=1e300)))
    result = exchange.result(given.work_id)
    assert result.status == "failed"
    assert "cannot be noised" in result.reason
    assert given.work_id not in exchange.uploads
    assert agent.stop() == 0
    assert json.loads(result.model_dump_json())["update"] is None
