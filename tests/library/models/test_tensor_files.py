"""Tensor files: round trips, agreement with the safetensors package, and files that lie."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from catchment.errors import BadTensors
from catchment.models.casting import bfloat16_bits, bfloat16_values
from catchment.models.reading import READ_BYTES
from catchment.models.tensors import (
    TensorFile,
    TensorInfo,
    TensorWriter,
    file_digest,
    read_tensors,
    write_tensors,
)

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", ">f4", ">i8", ">f8"]
NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__" and name.isprintable())
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


def bits(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


@given(tensors=st.dictionaries(NAMES, ARRAYS, max_size=5), transpose=st.booleans())
def test_what_is_written_is_read_back_and_the_safetensors_package_agrees(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], transpose: bool
) -> None:
    path = tmp_path_factory.mktemp("tensors") / "t.safetensors"
    if transpose:
        tensors = {name: array.T for name, array in tensors.items()}
    signature = write_tensors(path, tensors, {"made": "here"})

    back = read_tensors(path)
    assert list(back) == list(tensors) == list(signature)
    golden = safetensors.numpy.load_file(path)
    for name, array in tensors.items():
        assert back[name].shape == golden[name].shape == array.shape
        assert bits(back[name]) == bits(golden[name]) == bits(array)
    with TensorFile.open(path) as file:
        assert file.metadata == {"made": "here"}
        assert file.size_bytes == path.stat().st_size


def test_files_of_the_safetensors_package_are_read(tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    tensors = {
        "b": torch.randn(3, 5).to(torch.bfloat16),
        "h": torch.randn(7).half(),
        "f": torch.randn(2, 2),
        "d": torch.randn((), dtype=torch.float64),
        "i": torch.arange(5),
        "m": torch.tensor([True, False]),
        "e": torch.zeros(0, 3),
    }
    safetensors.torch.save_file(tensors, path)

    back = read_tensors(path)

    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        want = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(back[name], want.numpy())
        assert back[name].dtype == want.numpy().dtype


def test_bfloat16_is_rounded_as_torch_does(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    path = tmp_path / "t.safetensors"
    with TensorWriter.create(path, {"w": TensorInfo("BF16", (10_000,))}) as writer:
        writer.write("w", values)
    golden = torch.from_numpy(values).to(torch.bfloat16)
    np.testing.assert_array_equal(safetensors.torch.load_file(path)["w"].float(), golden.float())
    with TensorFile.open(path) as file:
        np.testing.assert_array_equal(file.array("w"), golden.view(torch.uint16).numpy())
        np.testing.assert_array_equal(file.float_array("w"), golden.float().numpy())
        np.testing.assert_array_equal(file.block("w", 5, 9, np.float64), golden[5:9].double().numpy())


@given(st.floats(width=64, allow_nan=False, min_value=-3e38, max_value=3e38))
def test_float64_becomes_the_nearest_bfloat16_in_one_rounding(value: float) -> None:
    got = bfloat16_bits(np.array([value]))
    around = (got.astype(np.int64) + np.array([-1, 0, 1])) & 0xFFFF
    distances = np.abs(bfloat16_values(around.astype(np.uint16)).astype(np.float64) - value)
    assert distances[1] <= np.nanmin(distances)


def test_a_value_halfway_after_a_first_rounding_is_not_rounded_twice() -> None:
    # Rounded to float32 first, the small part is lost and the tie goes to the even neighbour, 1.0.
    value = np.array([1 + 2**-8 + 2**-40])
    assert bfloat16_values(bfloat16_bits(value))[0] == 1 + 2**-7


def test_blocks_append_in_order(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    values = np.arange(10, dtype=np.float64)
    signature = {"a": TensorInfo("F32", (2, 5)), "empty": TensorInfo("F32", (0,)), "b": TensorInfo("I64", ())}
    with TensorWriter.create(path, signature) as writer:
        writer.write_block("a", values[:3])
        writer.write_block("a", values[3:])
        writer.write("empty", np.zeros(0, np.float32))
        writer.write("b", np.array(7))
        assert not path.exists()
    np.testing.assert_array_equal(read_tensors(path)["a"], values.reshape(2, 5).astype(np.float32))


def test_nothing_appears_when_writing_fails_or_values_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    signature = {"a": TensorInfo("F32", (2,)), "b": TensorInfo("F32", (2,))}
    writer = TensorWriter.create(path, signature)
    writer.write("a", np.zeros(2))
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadTensors, match="'b'"), TensorWriter.create(path, signature) as writer:
        writer.write("a", np.zeros(2))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_writing_leaves_the_file_before_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": np.ones(2)})
    before = file_digest(path)
    with pytest.raises(BadTensors), TensorWriter.create(path, {"a": TensorInfo("F32", (2,))}) as writer:
        writer.write("a", np.zeros(3))
    assert file_digest(path) == before
    assert [item.name for item in tmp_path.iterdir()] == ["t.safetensors"]


@pytest.mark.parametrize(
    ("dtype", "values", "problem"),
    [
        ("F32", np.array([1e300]), "does not fit"),
        ("F16", np.array([1e6]), "does not fit"),
        ("BF16", np.array([3.4e38 * 1.01]), "does not fit"),
        ("I32", np.array([2**40]), "does not fit"),
        ("I64", np.array([2**64 - 1], dtype=np.uint64), "does not fit"),
        ("U8", np.array([-1]), "does not fit"),
        ("I64", np.array([1.0]), "float64"),
        ("F32", np.array([1]), "int64"),
        ("F32", np.array(["x"]), "U1"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, dtype: str, values: np.ndarray, problem: str
) -> None:
    with (
        pytest.raises(BadTensors, match=f"(?s)'w'.*{problem}"),
        TensorWriter.create(tmp_path / "t", {"w": TensorInfo(dtype, (1,))}) as writer,
    ):
        writer.write("w", values)


@pytest.mark.parametrize(
    "array", [np.zeros(2, np.complex64), np.array([object()]), np.array(["text"]), np.zeros(1, "M8[s]")]
)
def test_arrays_that_no_tensor_file_holds_are_refused_by_name(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(BadTensors, match=r"'layer\.weight'"):
        write_tensors(tmp_path / "t", {"layer.weight": array})
    assert list(tmp_path.iterdir()) == []


def test_integers_keep_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "t"
    values = np.array([2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
    write_tensors(path, {"n": values})
    np.testing.assert_array_equal(read_tensors(path)["n"], values)


def test_ten_thousand_small_tensors(tmp_path: Path) -> None:
    path = tmp_path / "t"
    tensors = {f"layer.{number}.bias": np.full(3, number, np.float32) for number in range(10_000)}
    write_tensors(path, tensors)
    assert read_tensors(path).keys() == tensors.keys()


def test_views_outlive_their_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", {"a": np.arange(4)})
    with TensorFile.open(tmp_path / "t") as file:
        view = file.array("a")
    assert view.sum() == 6
    assert not view.flags.writeable


@pytest.mark.parametrize("copy_on_write", [False, True])
def test_forgetting_changes_no_value_not_even_written_ones(tmp_path: Path, copy_on_write: bool) -> None:
    size = 3 << 20
    write_tensors(tmp_path / "t", {"a": np.arange(7.0), "w": np.arange(size, dtype=np.float32)})
    with TensorFile.open(tmp_path / "t", copy_on_write=copy_on_write) as file:
        values = file.array("w")
        if copy_on_write:
            values[:] += 1
        before = values.copy()
        file.forget("w", size // 2, 2 * size)
        file.forget("a", 0, 7)
        np.testing.assert_array_equal(values, before)
        np.testing.assert_array_equal(file.array("a"), np.arange(7.0))


@pytest.mark.parametrize("size", [10, READ_BYTES])
def test_what_is_done_to_an_open_file_reaches_no_other_whether_it_was_mapped_or_read(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "w"
    write_tensors(path, {"w": np.ones(size, np.float32)})
    with TensorFile.open(path, copy_on_write=True) as changed:
        changed.array("w")[:] = 2
        del changed.signature["w"]
    with TensorFile.open(path) as again:
        assert again.signature == {"w": TensorInfo("F32", (size,))}
        assert again.array("w").sum() == size
        assert not again.array("w").flags.writeable


def test_a_digest_names_its_algorithm(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def as_file(header: object, data: bytes = bytes(4)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HOSTILE = {
    "empty file": b"",
    "three bytes": b"abc",
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "header of exabytes": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": as_file(b"{nope"),
    "a list": as_file(b"[]    "),
    "not UTF-8": as_file(b'{"\xff": 1}'),
    "deep nesting": as_file(b'{"a":' + b"[" * 100_000),
    "NaN": as_file(b'{"a": NaN}'),
    "huge number": as_file(b'{"a": ' + b"9" * 5000 + b"}"),
    "the same name twice": as_file(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    ),
    "unknown dtype": as_file({"a": entry("F8_E4M3", (4,))}),
    "dtype is a number": as_file({"a": entry(4)}),
    "negative size": as_file({"a": entry(shape=(-1,))}),
    "bool as a size": as_file({"a": entry(shape=(True,))}),
    "float as a size": as_file({"a": entry(shape=(1.0,))}),
    "fewer bytes than the shape": as_file({"a": entry(shape=(2,))}),
    "hole before": as_file({"a": entry(offsets=(4, 8))}, bytes(8)),
    "hole after": as_file({"a": entry()}, bytes(8)),
    "overlap": as_file({"a": entry(), "b": entry()}),
    "behind the end": as_file({"a": entry(), "b": entry(offsets=(4, 8))}),
    "reversed offsets": as_file({"a": entry(shape=(0,), offsets=(4, 0))}),
    "one offset": as_file({"a": entry(offsets=(0,))}),
    "additional key": as_file({"a": {**entry(), "more": 1}}),
    "no dtype": as_file({"a": {"shape": [1], "data_offsets": [0, 4]}}),
    "metadata is no text": as_file({"__metadata__": {"a": 1}, "a": entry()}),
    "empty tensor of an impossible shape": as_file({"a": entry(shape=(0, 2**62), offsets=(0, 0))}, b""),
    "hundred dimensions": as_file({"a": entry(shape=(1,) * 100)}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_whose_header_lies_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadTensors) as caught:
        TensorFile.open(path)
    assert len(str(caught.value)) > 10


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "t"
    path.write_bytes(struct.pack("<Q", len(noise)) + noise)
    with contextlib.suppress(BadTensors):
        TensorFile.open(path)


def test_a_tensor_beyond_two_gigabytes_is_read_in_blocks_to_its_end(tmp_path: Path) -> None:
    """A file with holes: 2.5 GB by its length, a few kilobytes on the disk."""
    path, size = tmp_path / "t", 5 * 2**27
    entry = {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}
    header = json.dumps({"w": entry}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 4 * size)
        file.seek(-8, os.SEEK_END)
        file.write(np.array([1.5, -2.5], "<f4").tobytes())
    with TensorFile.open(path) as opened:
        assert opened.signature["w"].num_elements == size
        assert opened.block("w", size - 3, size).tolist() == [0.0, 1.5, -2.5]
        assert opened.block("w", 2**29 - 1, 2**29 + 1).tolist() == [0.0, 0.0]
