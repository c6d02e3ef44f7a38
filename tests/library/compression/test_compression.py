"""Compressed client updates: what they weigh, what they lose, and damaged ones."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from catchment.compression import codec_of, encode, opened
from catchment.errors import BadTensors, InvalidField, TensorMismatch
from catchment.models.tensors import TensorFile, read_tensors, write_tensors
from catchment.models.updates import check_finite
from catchment.wire.messages import Algorithm

KINDS = ("bf16", "int8", "topk")
_count = itertools.count()


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk() -> Iterator[None]:
    """Thousands of small files, and no power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def update_of(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {
        "w": (rng(seed).standard_normal((size // 10, 10)) * 0.01).astype(np.float32),
        "exact": rng(seed).standard_normal(100),
        "b": np.float32([1.5, -2.5]),
        "steps": np.int64(7) * np.ones((), np.int64),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "@control/w": rng(seed + 1).standard_normal((size // 10, 10)).astype(np.float32),
    }


def compressed(
    folder: Path, tensors: dict[str, np.ndarray], kind: str, seed: int = 0, **params: Any
) -> tuple[Path, Algorithm]:
    number = next(_count)
    source, target = folder / f"u{number}", folder / f"c{number}"
    write_tensors(source, tensors)
    encode(source, target, codec_of(kind, params), generator=rng(seed))
    return target, Algorithm(name=kind, params=params)


def signature_of(tensors: dict[str, np.ndarray], folder: Path) -> Any:
    return write_tensors(folder / f"s{next(_count)}", tensors)


def decoded(folder: Path, tensors: dict[str, np.ndarray], kind: str, **params: Any) -> dict[str, np.ndarray]:
    path, algorithm = compressed(folder, tensors, kind, **params)
    with opened(path, algorithm, signature_of(tensors, folder)) as update:
        check_finite(update)
        return {name: update.values(name).copy() for name in update.signature}


@pytest.mark.parametrize(
    ("kind", "params", "share"),
    [
        ("bf16", {}, 0.5),
        ("int8", {}, 0.25),
        ("int8", {"block": 64}, 0.25 + 1 / 64),
        ("topk", {"ratio": 0.01}, 0.02),
        ("topk", {"ratio": 0.1}, 0.2),
    ],
)
def test_bytes_on_the_wire(tmp_path: Path, kind: str, params: dict[str, Any], share: float) -> None:
    tensors = {"w": rng().standard_normal((1000, 1000)).astype(np.float32)}
    path, _ = compressed(tmp_path, tensors, kind, **params)
    assert path.stat().st_size == pytest.approx(share * 4_000_000, rel=0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_small_tensors_integers_and_vectors_of_algorithms_are_exact(tmp_path: Path, kind: str) -> None:
    tensors = update_of(1000)
    got = decoded(tmp_path, tensors, kind)
    for name in ("b", "steps", "mask", "empty", "@control/w"):
        np.testing.assert_array_equal(got[name], tensors[name])
    assert {name: value.dtype for name, value in got.items()} == {n: v.dtype for n, v in tensors.items()}
    assert got["w"].shape == (100, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_any_block_is_the_part_of_the_whole(tmp_path: Path, kind: str) -> None:
    tensors = update_of(3000)
    params = {"block": 100} if kind == "int8" else {"ratio": 0.2} if kind == "topk" else {}
    path, algorithm = compressed(tmp_path, tensors, kind, **params)
    with opened(path, algorithm, signature_of(tensors, tmp_path)) as update:
        whole = update.values("w").reshape(-1)
        for start, stop in [(0, 3000), (0, 1), (99, 101), (100, 200), (1234, 2999), (2950, 4000), (7, 7)]:
            np.testing.assert_array_equal(update.block("w", start, stop), whole[start:stop])
            wide = update.block("w", start, stop, np.float64)
            assert wide.dtype == np.float64
            np.testing.assert_array_equal(wide, whole[start:stop])
        np.testing.assert_array_equal(update.float_array("w").reshape(-1), whole)
        np.testing.assert_array_equal(update.array("w").reshape(-1), whole)
        with pytest.raises(BadTensors, match="not floating point"):
            update.float_array("steps")
        with pytest.raises(BadTensors, match="holds no tensor 'nobody'"):
            update.array("nobody")


def test_bf16_is_off_by_at_most_one_part_in_256(tmp_path: Path) -> None:
    tensors = update_of(5000)
    got = decoded(tmp_path, tensors, "bf16")
    for name in ("w", "exact"):
        assert (np.abs(got[name] - tensors[name]) <= np.abs(tensors[name]) * 2**-8).all()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    values=hnp.arrays(np.float32, st.integers(64, 300), elements=st.floats(-(2.0**120), 2.0**120, width=32)),
    block=st.integers(16, 128),
    seed=st.integers(0, 99),
)
def test_int8_is_off_by_less_than_a_step(tmp_path: Path, values: np.ndarray, block: int, seed: int) -> None:
    path, algorithm = compressed(tmp_path, {"w": values}, "int8", seed, block=block)
    with opened(path, algorithm, signature_of({"w": values}, tmp_path)) as update:
        got = update.values("w").astype(np.float64)
    for start in range(0, values.size, block):
        part = values[start : start + block].astype(np.float64)
        step = np.abs(part).max() / 127
        assert (np.abs(got[start : start + block] - part) <= step * (1 + 1e-5) + 1e-44).all()


def test_int8_keeps_the_mean() -> None:
    values = np.float32([0.3, -0.7, 0.01, 1.0] * 16)
    draws = np.mean([decoded_with(values, seed) for seed in range(400)], axis=0, dtype=np.float64)
    # The spread of a draw is below one step, 1/127; that of the mean of 400 below a twentieth of it.
    np.testing.assert_allclose(draws, values, atol=4 * 0.5 / 127 / 20)
    assert np.unique([decoded_with(values, seed)[1] for seed in range(20)]).size == 2


def decoded_with(values: np.ndarray, seed: int) -> np.ndarray:
    stored = codec_of("int8", {}).encode("w", values, rng(seed))
    return stored["w"] * stored["@step/w"]


def test_the_same_generator_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (compressed(tmp_path, update_of(5000), "int8", seed)[0] for seed in (1, 1, 2))
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_topk_sends_the_largest_exactly(tmp_path: Path) -> None:
    values = rng().standard_normal(1000).astype(np.float32)
    got = decoded(tmp_path, {"w": values}, "topk", ratio=0.05)["w"]
    largest = np.argsort(-np.abs(values))[:50]
    np.testing.assert_array_equal(np.flatnonzero(got), np.sort(largest))
    np.testing.assert_array_equal(got[largest], values[largest])


@pytest.mark.parametrize("ratio", [1.0, 0.9999, 1e-9])
def test_topk_at_its_ends(tmp_path: Path, ratio: float) -> None:
    values = rng().standard_normal(100).astype(np.float32)
    got = decoded(tmp_path, {"w": values}, "topk", ratio=ratio)["w"]
    assert np.count_nonzero(got) == max(1, int(np.ceil(ratio * 100)))


def test_what_topk_leaves_out_comes_later(tmp_path: Path) -> None:
    """The sum of all that was sent and of what is still left out is the sum of the updates."""
    codec, algorithm = codec_of("topk", {"ratio": 0.1}), Algorithm(name="topk", params={"ratio": 0.1})
    total, sent = np.zeros(200), np.zeros(200)
    residual: Path | None = None
    for step in range(30):
        update = {"w": rng(step).standard_normal(200), "b": np.ones(2, np.float32)}
        signature = write_tensors(tmp_path / "u", update)
        left = tmp_path / f"r{step}"
        encode(tmp_path / "u", tmp_path / "c", codec, generator=rng(), residual=residual, next_residual=left)
        with opened(tmp_path / "c", algorithm, signature) as got:
            sent += got.values("w")
        total += update["w"]
        residual = left
        assert list(read_tensors(left)) == ["w"]
        np.testing.assert_allclose(sent + read_tensors(left)["w"], total, atol=1e-12)
    assert np.abs(total - sent).max() < np.abs(total).max()


def test_a_residual_of_another_model_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "u", {"w": np.ones(100)})
    write_tensors(tmp_path / "r", {"w": np.ones(101)})
    with pytest.raises(BadTensors, match="another model"):
        encode(tmp_path / "u", tmp_path / "c", codec_of("topk", {}), generator=rng(), residual=tmp_path / "r")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_values_that_do_not_fit_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(BadTensors, match="'w'"):
        compressed(tmp_path, {"w": np.full(100, 1e300)}, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_and_the_smallest_numbers(tmp_path: Path, kind: str) -> None:
    values = np.zeros(128, np.float32)
    assert not decoded(tmp_path, {"w": values}, kind)["w"].any()
    values[5] = np.float32(1e-45)
    assert np.abs(decoded(tmp_path, {"w": values}, kind)["w"]).max() <= np.float32(1e-40)


Damage = Callable[[dict[str, np.ndarray]], object]


def topk_damage(**arrays: np.ndarray) -> Damage:
    return lambda tensors: tensors.update({f"@{part}/w": array for part, array in arrays.items()})


@pytest.mark.parametrize(
    ("kind", "damage", "words"),
    [
        ("topk", topk_damage(indices=np.uint32([0, 200])), "must rise and lie below 200"),
        ("topk", topk_damage(indices=np.uint32([3, 3])), "must rise"),
        ("topk", topk_damage(indices=np.uint32([4, 3])), "must rise"),
        ("topk", topk_damage(indices=np.int64([0, -1])), "wrong dtype: @indices/w"),
        ("topk", topk_damage(indices=np.uint32([0, 1, 2])), "wrong shape: @indices/w"),
        ("topk", topk_damage(values=np.float32([np.nan, 1])), "'w' holds NaN"),
        ("topk", topk_damage(values=np.float32([np.inf, 1])), "'w' holds NaN"),
        ("topk", topk_damage(values=np.float64([1, 1])), "wrong dtype: @values/w"),
        ("topk", lambda tensors: tensors.pop("@values/w"), "missing: @values/w"),
        ("int8", lambda tensors: tensors.update({"@step/w": np.float32([-1])}), "scale of its int8 blocks"),
        ("int8", lambda tensors: tensors.update({"@step/w": np.float32([np.nan])}), "scale of its int8"),
        ("int8", lambda tensors: tensors.update({"@step/w": np.float32([np.inf])}), "scale of its int8"),
        ("int8", lambda tensors: tensors.update({"@step/w": np.float32([3e38])}), "scale of its int8"),
        ("int8", lambda tensors: tensors.update({"@step/w": np.float32([1, 1])}), "wrong shape: @step/w"),
        ("int8", lambda tensors: tensors.update({"w": np.ones(200, np.float32)}), "wrong dtype: w"),
        ("bf16", lambda tensors: tensors.update({"w": np.ones(200, np.float32)}), "wrong dtype: w"),
        ("bf16", lambda tensors: tensors.update({"more": np.ones(2)}), "unexpected: more"),
    ],
)
def test_a_damaged_update_is_refused_with_the_reason(
    tmp_path: Path, kind: str, damage: Damage, words: str
) -> None:
    update = {"w": rng().standard_normal(200).astype(np.float32)}
    path, algorithm = compressed(tmp_path, update, kind)
    tensors = read_tensors(path)
    damage(tensors)
    write_tensors(tmp_path / "damaged", tensors)
    with pytest.raises(BadTensors, match=words):
        opened(tmp_path / "damaged", algorithm, signature_of(update, tmp_path))


def test_bf16_bits_that_are_no_number_are_refused(tmp_path: Path) -> None:
    update = {"w": np.ones(100, np.float32)}
    path, algorithm = compressed(tmp_path, update, "bf16")
    data = bytearray(path.read_bytes())
    data[-2:] = np.uint16(0x7F80).tobytes()
    path.write_bytes(data)
    with pytest.raises(BadTensors, match="'w' holds NaN"):
        opened(path, algorithm, signature_of(update, tmp_path))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_no_damage_passes_as_anything_but_finite_numbers(tmp_path: Path, kind: str, data: Any) -> None:
    update = {"w": rng().standard_normal(100).astype(np.float32), "b": np.ones(2, np.float32)}
    path, algorithm = compressed(tmp_path, update, kind, **({"ratio": 0.1} if kind == "topk" else {}))
    signature = signature_of(update, tmp_path)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(damaged), len(damaged) - 1, len(damaged) // 2]))
    path.write_bytes(damaged[:end])
    try:
        with opened(path, algorithm, signature) as got:
            check_finite(got)
            for name, info in signature.items():
                assert got.values(name).shape == info.shape
                assert np.isfinite(got.values(name)).all()
    except BadTensors:
        pass


@pytest.mark.parametrize(
    ("kind", "params", "field"),
    [
        ("zip", {}, "compression.type"),
        ("topk", {"ratio": 0}, "compression.params.ratio"),
        ("topk", {"ratio": 1.5}, "compression.params.ratio"),
        ("topk", {"ratio": "0.5"}, "compression.params.ratio"),
        ("topk", {"ratio": float("nan")}, "compression.params.ratio"),
        ("int8", {"block": 8}, "compression.params.block"),
        ("int8", {"blok": 64}, "compression.params.blok"),
        ("bf16", {"ratio": 0.5}, "compression.params.ratio"),
    ],
)
def test_parameters_are_strict(kind: str, params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        codec_of(kind, params)
    assert caught.value.field == field


def test_without_compression_the_file_is_read_as_it_is(tmp_path: Path) -> None:
    signature = write_tensors(tmp_path / "u", update_of(1000))
    with opened(tmp_path / "u", None, signature) as update:
        assert isinstance(update, TensorFile)
    with pytest.raises(TensorMismatch, match="missing: x"):
        opened(tmp_path / "u", None, {**signature, "x": signature["w"]})
