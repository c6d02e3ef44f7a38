"""What we rely on in the Prefect server that the lock installs."""

from __future__ import annotations

import importlib

import httpx


def test_the_server_can_be_imported_with_the_locked_fastapi():
    assert importlib.import_module("prefect.server.api.server")


def test_the_server_takes_the_nulls_that_its_own_client_sends(prefect_server):
    # FastAPI from 0.151 on refuses them, and with them `prefect deploy` and every filter of the sync client.
    body = {"limit": None, "offset": 0, "sort": None, "flow_runs": None}
    assert httpx.post(f"{prefect_server}/flow_runs/filter", json=body).status_code == 200
