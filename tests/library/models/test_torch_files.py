"""PyTorch files as initial weights: what torch.save writes, and pickles that want more."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catchment.errors import BadTensors, UnsafeFile
from catchment.models.initial import import_weights
from catchment.models.tensors import read_tensors


def imported(tmp_path: Path, content: Any) -> dict[str, np.ndarray]:
    torch.save(content, tmp_path / "model.pt")
    import_weights(tmp_path / "model.pt", tmp_path / "out.safetensors", "pytorch")
    return read_tensors(tmp_path / "out.safetensors")


def assert_same(got: dict[str, np.ndarray], want: dict[str, torch.Tensor]) -> None:
    assert list(got) == list(want)
    for name, tensor in want.items():
        expected = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
        np.testing.assert_array_equal(got[name], expected)
        assert got[name].dtype == expected.dtype


def module() -> torch.nn.Module:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(3, 2).bfloat16()
    )
    net.register_buffer("mask", torch.tensor([True, False]))
    return net


def test_a_state_dict_keeps_its_names_order_and_values(tmp_path: Path) -> None:
    state = module().state_dict()
    assert_same(imported(tmp_path, state), state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_a_checkpoint_with_optimizer_and_epoch_is_accepted(tmp_path: Path, key: str) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(3)).sum().backward()
    optimizer.step()
    content = {"epoch": 3, "loss": 0.5, key: net.state_dict(), "optimizer": optimizer.state_dict()}
    assert_same(imported(tmp_path, content), net.state_dict())


def test_views_offsets_tied_and_odd_tensors(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "whole": base,
        "transposed": base.t(),
        "corner": base[1:, 1:],
        "tied": base,
        "expanded": torch.ones(3, 1).expand(3, 5),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "unsigned": torch.ones(3, dtype=torch.uint16),
        "parameter": torch.nn.Parameter(base),
        "half": torch.ones(2, dtype=torch.float16),
        "double": torch.ones(2, dtype=torch.float64),
    }
    assert_same(imported(tmp_path, state), state)


def test_a_file_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.tensor([1.0, 2.0])}, tmp_path / "little.pt")
    with zipfile.ZipFile(tmp_path / "little.pt") as old, zipfile.ZipFile(tmp_path / "model.pt", "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("byteorder"):
                content = b"big"
            if entry.filename.endswith("data/0"):
                content = np.array([1.0, 2.0], ">f4").tobytes()
            new.writestr(entry.filename, content)
    import_weights(tmp_path / "model.pt", tmp_path / "out", "pytorch")
    assert read_tensors(tmp_path / "out")["w"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.zeros(2, dtype=torch.complex64), "ComplexFloatStorage"),
        (lambda: torch.ones(2).to(torch.float8_e4m3fn), "not supported"),
        (lambda: torch.eye(2).to_sparse(), "sparse"),
        (lambda: torch.ones(2, device="meta"), "meta"),
        (lambda: torch.tensor([1.0, float("nan")]), "'w' holds NaN"),
        (lambda: "text", "'w' is no tensor but str"),
        (lambda: {"nested": torch.ones(1)}, "'w' is no tensor but dict"),
    ],
)
def test_what_cannot_be_federated_is_refused_with_a_reason(
    tmp_path: Path, make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(BadTensors, match=message):
        imported(tmp_path, {"w": make()})
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("content", [[torch.ones(1)], torch.ones(1), {}, {1: torch.ones(1)}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(BadTensors):
        imported(tmp_path, content)


def test_a_pickled_module_is_refused_by_the_global_that_it_wants(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile, match=r"'torch\.nn\.modules\.linear\.Linear'.*state_dict"):
        imported(tmp_path, torch.nn.Linear(2, 2))


def test_the_format_before_1_6_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeFile, match=r"1\.6.*save again"):
        import_weights(path, tmp_path / "out", "pytorch")


def torch_zip(path: Path, stream: bytes, entries: dict[str, bytes] | None = None, **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", stream)
        archive.writestr("archive/byteorder", b"little")
        for name, content in (entries or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


class Runs:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    "wrap", [lambda item: item, lambda item: {"w": item}, lambda item: {"state_dict": [item]}]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_execute_does_not(
    tmp_path: Path, protocol: int, wrap: Callable[[Any], Any], zipped: bool
) -> None:
    canary = tmp_path / "canary"
    stream = pickle.dumps(wrap(Runs(os.mkdir, str(canary))), protocol)
    path = tmp_path / "model.pt"
    if zipped:
        torch_zip(path, stream)
    else:
        path.write_bytes(stream)
    with pytest.raises(BadTensors) as caught:
        import_weights(path, tmp_path / "out", "pytorch")
    if zipped:
        assert isinstance(caught.value, UnsafeFile)
        assert "mkdir" in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, os.system, print, io.open])
def test_builtins_are_refused_by_name(tmp_path: Path, function: Callable[..., Any]) -> None:
    path = torch_zip(tmp_path / "model.pt", pickle.dumps(Runs(function, "1"), 2))
    with pytest.raises(UnsafeFile, match=function.__name__):
        import_weights(path, tmp_path / "out", "pytorch")


def tensor_stream(storage: bytes, numbers: bytes) -> bytes:
    """A state dict {"w": _rebuild_tensor_v2(storage, *numbers)} in opcodes."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + numbers
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def storage_id(key: bytes = b"0", kind: bytes = b"FloatStorage", number: bytes = b"K\x02") -> bytes:
    return (
        b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX" + len(key).to_bytes(4, "little") + key
        + b"X\x03\x00\x00\x00cpu" + number + b"tQ"
    )  # fmt: skip


WHOLE = b"K\x00K\x02\x85K\x01\x85"


def test_the_handmade_stream_is_what_torch_would_write(tmp_path: Path) -> None:
    path = torch_zip(
        tmp_path / "model.pt", tensor_stream(storage_id(), WHOLE), {"data/0": np.ones(2, "<f4").tobytes()}
    )
    import_weights(path, tmp_path / "out", "pytorch")
    assert read_tensors(tmp_path / "out")["w"].tolist() == [1.0, 1.0]


HOSTILE_STREAMS = {
    "shape beyond the storage": tensor_stream(storage_id(), b"K\x00K\x09\x85K\x01\x85"),
    "offset beyond the storage": tensor_stream(storage_id(), b"K\x02K\x01\x85K\x01\x85"),
    "negative offset": tensor_stream(storage_id(), b"J\xff\xff\xff\xffK\x02\x85K\x01\x85"),
    "negative stride": tensor_stream(storage_id(), b"K\x01K\x02\x85J\xff\xff\xff\xff\x85"),
    "stride beyond the storage": tensor_stream(storage_id(), b"K\x00K\x02\x85K\x10\x85"),
    "two strides for one dimension": tensor_stream(storage_id(), b"K\x00K\x02\x85K\x01K\x01\x86"),
    "terabytes of one element": tensor_stream(
        storage_id(), b"K\x00\x8a\x06" + bytes(5) + b"\x01\x85K\x00\x85"
    ),
    "no entry of that key": tensor_stream(storage_id(b"7"), WHOLE),
    "a key that climbs": tensor_stream(storage_id(b"../../x"), WHOLE),
    "unknown storage": tensor_stream(storage_id(kind=b"FakeStorage"), WHOLE),
    "storage that is none": tensor_stream(b"K\x01", WHOLE),
    "shape that is none": tensor_stream(storage_id(), b"K\x00X\x01\x00\x00\x00aK\x01\x85"),
    "persistent id that is none": b"\x80\x02K\x01Q.",
    "truncated": tensor_stream(storage_id(), WHOLE)[:-9],
    "empty": b"",
    "huge memo index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "huge string": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "registered extension": b"\x80\x02\x82\x01.",
    "state for a builder": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
    "attributes for a builder": (
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n}}X\x01\x00\x00\x00aK\x01s\x86b."
    ),
    "attributes for OrderedDict": b"\x80\x02ccollections\nOrderedDict\n}}X\x01\x00\x00\x00aK\x01s\x86b.",
    "attributes for a storage type": b"\x80\x02ctorch\nFloatStorage\n}}X\x05\x00\x00\x00dtypeK\x01s\x86b.",
    "a dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93.",
    "a builder called with nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "deep tuples": b"\x80\x02" + b")" + b"\x85" * 100_000 + b".",
}


@pytest.mark.parametrize("stream", HOSTILE_STREAMS.values(), ids=HOSTILE_STREAMS.keys())
def test_a_stream_made_to_break_the_reader_is_refused(tmp_path: Path, stream: bytes) -> None:
    path = torch_zip(tmp_path / "model.pt", stream, {"data/0": np.ones(2, "<f4").tobytes()})
    with pytest.raises(BadTensors):
        import_weights(path, tmp_path / "out", "pytorch")
    assert not (tmp_path / "out").exists()
    # A good file is still read: nothing of the reader was changed.
    assert_same(imported(tmp_path, OrderedDict(w=torch.ones(2))), {"w": torch.ones(2)})


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    stream = tensor_stream(storage_id(), WHOLE)
    path = torch_zip(tmp_path / "model.pt", stream, {"data/0": bytes(8)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BadTensors, match="compressed"):
        import_weights(path, tmp_path / "out", "pytorch")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "model.pt", pickle.dumps({}), {"constants.pkl": b"", "code/x.py": b""})
    with pytest.raises(BadTensors, match="TorchScript"):
        import_weights(path, tmp_path / "out", "pytorch")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 and nothing else", b"PK\x05\x06" + bytes(18)]
)
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(BadTensors, match=r"model\.pt"):
        import_weights(path, tmp_path / "out", "pytorch")
