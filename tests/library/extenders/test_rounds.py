"""Rounds with extenders: what each function is given, what becomes of its result, any subset of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment import archives
from catchment.exchange import transfer
from catchment.jobs import lifecycle, purge
from catchment.models.tensors import read_tensors
from catchment.wire.messages import WorkOrder, WorkResult
from tests.library.extenders.conftest import Driver, send_files
from tests.thread_sites import add_one, job

NOTE = """
    import json, pathlib
    def note(**said):
        with open(CALLS, "a") as file:
            file.write(json.dumps(said) + "\\n")
"""
BROADCAST = (
    NOTE
    + """
    def broadcast(parameters):
        note(parameters=parameters)
        pathlib.Path("table.txt").write_text("one,two")
        return {"table.txt": "table.txt"}, {"rate": 0.5, "round_sizes": [1, 2]}
"""
)
MEDIAN = (
    NOTE
    + """
    import numpy as np
    def aggregate(update, previous):
        seen = previous["seen"] if previous else []
        seen.append(update["weights"]["w"])
        note(
            client=update["client_id"], metrics=update["metrics"], parameters=update["custom_params"],
            files=sorted(p.name for p in pathlib.Path(update["custom_files"]).iterdir()),
        )
        start = update["global_weights"]
        new = start["w"] + np.median(np.stack(seen), axis=0).astype(np.float32)
        return {"seen": seen, "weights": {"w": new, "steps": start["steps"] + 1}, "count": len(seen)}
"""
)
FINISH = (
    NOTE
    + """
    def finish(result):
        loaded = {name: array.tolist() for name, array in result["weights"].items()}
        keys = sorted(result["aggregated"])
        note(round=result["round"], metrics=result["metrics"], loaded=loaded, keys=keys)
        folder = pathlib.Path(result["output"], "inner")
        folder.mkdir()
        (folder / "report.txt").write_text(f"round {result['round']} of {result['weights_path'][-4:]}")
"""
)


def by(step: float, **metrics: Any) -> Any:
    """A training that moves every weight by `step`."""

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update = {"w": np.full_like(weights["w"], step), "steps": weights["steps"] + 1}
        return update, {"sample_num": 10, **metrics}

    return train


def weights_of(driver: Driver, digest: str) -> dict[str, np.ndarray]:
    return read_tensors(driver.store.blobs.local_path(digest))


def test_aggregate_may_replace_the_new_weights(driver, make_site):
    for name, step in (("a", 1.0), ("b", 2.0), ("c", 99.0)):
        make_site(name, train=by(step))
    claim = driver.begin(MEDIAN, "aggregate", hyper_parameters={"client_num": 3, "max_round_num": 2})
    driver.drive(claim)
    reports = lifecycle.job_rounds(driver.store, "default", "j")
    assert reports[0]["rule"].endswith("extenders.aggregate made the new weights")
    checkpoint = lifecycle.get_job(driver.store, "default", "j")["checkpoints"]["checkpoint_v1"]
    saved = read_tensors(driver.folder(checkpoint["path"]))
    np.testing.assert_array_equal(saved["w"], np.full((2, 3), 4, np.float32))
    assert saved["steps"] == 2
    assert [json.loads(line)["client"] for line in driver.called()] == ["a", "b", "c"] * 2


def test_without_weights_in_its_result_the_aggregation_stands(driver, make_site):
    make_site("a", train=by(1.0))
    make_site("b", train=by(3.0))
    source = "def aggregate(update, previous):\n    return {'n': (previous or {'n': 0})['n'] + 1}\n"
    claim = driver.begin(source, "aggregate")
    np.testing.assert_array_equal(weights_of(driver, driver.trained(claim, 1))["w"], np.full((2, 3), 2.0))


def test_under_differential_privacy_aggregate_sees_all_updates_together_only(driver, make_site):
    make_site("a", train=by(1.0, loss=0.25))
    make_site("b", train=by(3.0, loss=0.5))
    private = {"type": "DP", "noise_multiplier": 0, "clip_norm": 100.0}
    claim = driver.begin(MEDIAN, "aggregate", secure_algorithm=private)
    new = weights_of(driver, driver.trained(claim, 1))
    np.testing.assert_array_equal(new["w"], np.full((2, 3), 2.0, np.float32))
    assert new["steps"] == 1  # as the function made them; the mean itself keeps the round's
    (said,) = (json.loads(line) for line in driver.called())
    assert said == {"client": "all", "metrics": {}, "parameters": {}, "files": []}
    (report, *_) = lifecycle.job_rounds(driver.store, "default", "j")
    assert report["privacy"]["clip_norm"] == 100.0


def test_what_aggregate_is_given_does_not_reach_the_store_when_it_is_changed(driver, make_site):
    make_site("a")
    make_site("b")
    source = """
    def aggregate(update, previous):
        for kind in ("weights", "global_weights"):
            for array in update[kind].values():
                array[...] = 77
            update[kind].clear()
        update.clear()
        print('{"result": {"replaces": true}}')
        return {}
    """
    claim = driver.begin(source, "aggregate")
    np.testing.assert_array_equal(weights_of(driver, driver.trained(claim, 1))["w"], np.ones((2, 3)))
    np.testing.assert_array_equal(weights_of(driver, driver.trained(claim, 2))["w"], np.full((2, 3), 2.0))


def test_files_and_parameters_of_a_client_reach_aggregate(driver, make_site, tmp_path):
    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> WorkResult:
        assert order.files_wanted
        (tmp_path / "scores").write_text("7")
        archive = tmp_path / f"{order.work_id}.zip"
        archives.pack({"scores": tmp_path / "scores", "näme": tmp_path / "scores"}, archive)
        update, metrics = add_one(order, weights)
        return WorkResult(
            status="done",
            metrics=metrics,
            parameters={"mood": "good"},
            update=sites["a"].upload(order, update),
            files=send_files(sites["a"], order.work_id, archive),
        )

    sites = {"a": make_site("a", train=train), "b": make_site("b")}
    claim = driver.begin(MEDIAN, "aggregate")
    driver.trained(claim, 1)
    a, b = (json.loads(line) for line in driver.called())
    assert (a["files"], a["parameters"]) == (["näme", "scores"], {"mood": "good"})
    assert (b["files"], b["parameters"]) == ([], {})
    assert a["metrics"] == {"sample_num": 10, "loss": 1.0}


def test_broadcast_reaches_training_and_evaluation_and_is_called_once_for_each(driver, make_site):
    sites = [make_site("a"), make_site("b")]
    claim = driver.begin(BROADCAST, "broadcast", parameters={"--lr": 0.1})
    driver.drive(claim)
    orders = [order for site in sites for order in site.seen]
    assert len(orders) == 2 * 2 * 3
    for order in orders:
        assert order.prepared_parameters == {"rate": 0.5, "round_sizes": [1, 2]}
        assert list(order.prepared) == ["table.txt"]
        assert order.prepared["table.txt"].size_bytes == len("one,two")
    assert driver.called() == [json.dumps({"parameters": {"--lr": 0.1}})] * 6


def test_a_site_may_fetch_what_was_broadcast_to_it(driver, make_site):
    fetched: list[bytes] = []

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        path, _ = transfer.site_blob(driver.store, "a", order.prepared["table.txt"].digest)
        fetched.append(path.read_bytes())
        return add_one(order, weights)

    make_site("a", train=train)
    make_site("b")
    driver.trained(driver.begin(BROADCAST, "broadcast"), 1)
    assert fetched == [b"one,two"]


def test_finish_is_called_once_a_round_and_its_files_are_kept(driver, make_site):
    make_site("a")
    make_site("b")
    claim = driver.begin(MEDIAN + FINISH, "aggregate", "finish", hyper_parameters={"evaluate_interval": 3})
    driver.drive(claim)
    finished = [said for line in driver.called() if "round" in (said := json.loads(line))]
    assert [said["round"] for said in finished] == [1, 2, 3]
    assert finished[0]["metrics"] == {}
    assert finished[2]["metrics"]["accuracy"] == 0.03
    assert finished[2]["loaded"] == {"w": [[3.0] * 3] * 2, "steps": 3}
    assert finished[0]["keys"] == ["count", "seen"]
    for number in (1, 2, 3):
        report = driver.folder(f"out/j_V1/extender/round_{number}/inner/report.txt")
        assert report.read_text().startswith(f"round {number}")


def test_all_three_together_and_nothing_is_left_behind(driver, make_site):
    make_site("a")
    make_site("b")
    driver.drive(driver.begin(BROADCAST + MEDIAN + FINISH, "broadcast", "aggregate", "finish"))
    assert lifecycle.get_job(driver.store, "default", "j")["status"]["state"] == "FINISHED"
    staging = list(driver.store.blobs.staging_folder.iterdir())
    assert [path.name for path in staging if not path.name.startswith(("update-", "files-"))] == []
    lifecycle.request_delete(driver.store, "default", "j")
    row = driver.store.db.read(lambda tx: purge.rows.find(tx, "default", "j"))
    if row is not None:
        purge.purge_job(driver.store, row.uid)
    blobs = [path for path in (driver.store.settings.home / "blobs").rglob("*") if path.is_file()]
    assert blobs == []
    assert not driver.folder("out/j_V1").exists()


def test_an_empty_script_path_switches_the_other_fields_off(driver, make_site):
    make_site("a")
    make_site("b")
    extenders = {"script_path": "", "aggregate": "no such function!", "finish": "f"}
    lifecycle.create_job(driver.store, "default", job(extenders=extenders))
    driver.drive(driver.start())
    assert lifecycle.get_job(driver.store, "default", "j")["status"]["state"] == "FINISHED"


def test_a_folder_with_an_entry_may_have_modules_of_its_own(driver, make_site):
    make_site("a")
    make_site("b")
    driver.write_script("STEP = 5\n", "numpy.py")
    driver.write_script("STEP = 5\n", "own.py")
    driver.write_script(
        "from own import STEP\ndef aggregate(update, previous):\n    return {'weights': "
        "{'w': update['global_weights']['w'] + update['weights']['w'] * STEP, 'steps': 1 + "
        "update['global_weights']['steps']}}\n"
    )
    extenders = {"script_path": "ext", "entry": "functions.py", "aggregate": "aggregate"}
    lifecycle.create_job(driver.store, "default", job(extenders=extenders))
    digest = driver.trained(driver.start(), 1)
    np.testing.assert_array_equal(weights_of(driver, digest)["w"], np.full((2, 3), 5, np.float32))


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_weights_can_be_replaced(driver, make_site, kind, tmp_path):
    import torch

    from catchment.models.tensors import TensorFile

    model = {"w": torch.ones(3, dtype=getattr(torch, kind))}
    from safetensors.torch import save_file

    save_file(model, tmp_path / "half.safetensors")
    driver.store.files.write_file("default", "models/half.safetensors", tmp_path / "half.safetensors")

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        return {"w": np.full(3, 0.5, np.float32)}, {"sample_num": 1}

    make_site("a", train=train)
    make_site("b", train=train)
    source = """
    def aggregate(update, previous):
        start = update["global_weights"]["w"]
        return {"weights": {"w": start + update["weights"]["w"].astype(start.dtype)}}
    """
    claim = driver.begin(source, "aggregate", model_path="models/half.safetensors")
    with TensorFile.open(driver.store.blobs.local_path(driver.trained(claim, 1))) as new:
        assert new.float_array("w").tolist() == [1.5] * 3
        assert new.signature["w"].dtype == {"bfloat16": "BF16", "float16": "F16"}[kind]


def test_the_same_round_gives_the_same_bits(driver, make_site):
    make_site("a", train=by(0.1))
    make_site("b", train=by(0.7))
    claim = driver.begin(MEDIAN, "aggregate", hyper_parameters={"max_round_num": 1})
    first = driver.drive(claim)["weights"]
    again = driver.start("second")
    assert driver.drive(again)["weights"] == first
    assert Path(driver.store.blobs.local_path(first)).is_file()
