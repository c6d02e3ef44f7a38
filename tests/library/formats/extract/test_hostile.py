"""Files that were made to do harm do none: they are refused, or described, and nothing is touched."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import Extracted
from catchment.formats.extract.running import Limits, run_extraction
from tests.library.formats.extract.sampled import SAMPLES

Run = Callable[..., Extracted]


class Touch:
    """A pickle of it runs a command that makes a file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._canary}",)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that must not come to be."""
    return tmp_path / "canary"


@pytest.fixture
def run(tmp_path: Path, canary: Path) -> Run:
    """Extract files in the child; afterwards nothing on the host has changed."""

    def extracted(format_name: str, files: dict[str, bytes | str], limits: Limits = Limits()) -> Extracted:  # noqa: B008
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        try:
            return run_extraction(folder, format_name, limits)
        finally:
            assert not canary.exists()
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
            assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]

    return extracted


def zipped(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def test_the_canary_sings_when_the_pickle_is_really_loaded(tmp_path: Path) -> None:
    """So that the other tests can fail at all."""
    pickle.loads(pickle.dumps(Touch(tmp_path / "sung")))  # noqa: S301
    assert (tmp_path / "sung").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_state_dict_that_runs_a_command_is_refused(run: Run, canary: Path, protocol: int) -> None:
    hostile = pickle.dumps({"weight": Touch(canary)}, protocol)
    with pytest.raises(ExtractionFailed, match=r"would run 'posix\.system'"):
        run("StateDict", {"m.pth": zipped({"m/data.pkl": hostile})})


def test_an_old_state_dict_that_runs_a_command_is_refused(run: Run, canary: Path) -> None:
    with pytest.raises(ExtractionFailed, match=r"posix\.system"):
        run("StateDict", {"m.pth": pickle.dumps(Touch(canary), 2)})


def test_a_torchscript_archive_with_a_foreign_class_is_refused(run: Run, canary: Path) -> None:
    entries = {"m/data.pkl": pickle.dumps(Touch(canary), 2), "m/constants.pkl": b"", "m/version": b"3"}
    with pytest.raises(ExtractionFailed, match=r"posix\.system"):
        run("TorchScript", {"m.pt": zipped(entries)})


def test_code_that_torchscript_would_run_at_load_is_told_and_not_run(run: Run) -> None:
    with zipfile.ZipFile(SAMPLES / "torchscript" / "model.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    code = "model/code/__torch__.py"
    entries[code] += (
        b"  def __setstate__(self: __torch__.Net, state: int) -> NoneType:\n    while True:\n      pass\n"
    )
    found = run("TorchScript", {"m.pt": zipped(entries)})
    assert found.extras["runsAtLoad"] == ["Net"]


def test_a_joblib_file_that_runs_a_command_is_refused_also_when_packed(run: Run, canary: Path) -> None:
    hostile = pickle.dumps([Touch(canary)])
    for content in (hostile, zlib.compress(hostile)):
        with pytest.raises(ExtractionFailed, match=r"posix\.system"):
            run("SKLearn", {"m.joblib": content})


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "builtins.getattr", "importlib.import_module", "subprocess.Popen", "__builtin__.exec"],
)
def test_no_function_of_pythons_library_passes_in_a_joblib_file(run: Run, name: str) -> None:
    module, _, function = name.rpartition(".")
    with pytest.raises(ExtractionFailed, match="would run"):
        run("SKLearn", {"m.joblib": b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"."})


def test_a_lambda_layer_is_told_and_not_decoded(run: Run) -> None:
    found = run("H5", {"m.h5": (SAMPLES / "h5_lambda" / "model.h5").read_bytes()})
    assert found.extras["lambdaLayers"] == ["twice"]


def _hdf5(fill: Callable[[Any], object]) -> bytes:
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        fill(file)
    return target.getvalue()


def test_links_of_an_hdf5_file_are_not_followed(run: Run) -> None:
    for link in (h5py.ExternalLink("/etc/passwd", "/x"), h5py.SoftLink("/elsewhere")):
        content = _hdf5(lambda file, link=link: file.__setitem__("w", link))
        with pytest.raises(ExtractionFailed, match="link to elsewhere"):
            run("H5", {"m.h5": content})


def test_values_of_an_hdf5_file_that_lie_in_another_are_not_looked_for(run: Run) -> None:
    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
        file.create_virtual_dataset("w", layout)

    external = _hdf5(lambda file: file.create_dataset("w", (4,), "f4", external=[("/etc/passwd", 0, 16)]))
    for content in (_hdf5(virtual), external):
        with pytest.raises(ExtractionFailed, match="in another file"):
            run("H5", {"m.h5": content})


def test_a_group_that_contains_itself_ends(run: Run) -> None:
    def cyclic(file: Any) -> None:
        group = file.create_group("a")
        group["again"] = group
        group.create_dataset("w", data=np.zeros((2, 2), np.float32))

    assert run("H5", {"m.h5": _hdf5(cyclic)}).parameters == 4


BOMB = (
    '<!DOCTYPE PMML [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    '<PMML version="4.4"><Header>&b;</Header></PMML>'
)
OUTSIDE = '<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]><PMML><Header>&x;</Header></PMML>'


@pytest.mark.parametrize("content", [BOMB, OUTSIDE])
def test_entities_of_xml_are_refused(run: Run, content: str) -> None:
    with pytest.raises(ExtractionFailed, match="declares an entity"):
        run("PMML", {"m.pmml": content})


def test_a_foreign_document_type_is_not_fetched(run: Run) -> None:
    content = '<!DOCTYPE PMML SYSTEM "http://127.0.0.1:1/x.dtd"><PMML><TreeModel functionName="x"/></PMML>'
    assert run("PMML", {"m.pmml": content}).extras["model"] == "TreeModel"


def test_what_unpacks_to_far_more_than_it_should_be_is_refused(run: Run) -> None:
    bomb = zipped({"schema.json": bytes(200 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**20
    with pytest.raises(ExtractionFailed, match="when unpacked"):
        run("SKLearn", {"m.skops": bomb}, Limits(memory_mb=256))
    bomb = zipped({"config.json": bytes(100 * 2**20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ExtractionFailed, match="when unpacked"):
        run("Keras", {"m.keras": bomb}, Limits(memory_mb=256))
    bomb = zipped({"m/data.pkl": bytes(100 * 2**20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ExtractionFailed, match="when unpacked"):
        run("StateDict", {"m.pth": bomb}, Limits(memory_mb=256))


def test_a_packed_pickle_as_large_as_it_likes_ends(run: Run) -> None:
    """joblib's packed files are read piece by piece; what never ends is ended by the time that it takes."""
    head = (
        b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\x05\x00\x00\x00shapeJ\x00\x00\x00\x40\x85"
        b"X\x05\x00\x00\x00dtypecnumpy\ndtype\nX\x02\x00\x00\x00f8\x85Rub"
    )
    packer = zlib.compressobj(9)
    content = (
        packer.compress(head) + b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    )
    with pytest.raises(ExtractionFailed, match="cut off"):
        run("SKLearn", {"m.joblib": content}, Limits(memory_mb=64))


def test_aliases_of_yaml_are_refused(run: Run) -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nflavors: {x: *b}\n"
    with pytest.raises(ExtractionFailed, match="refers to a part of itself"):
        run("MLflow", {"MLmodel": bomb})


def test_yaml_that_names_objects_is_refused(run: Run, canary: Path) -> None:
    with pytest.raises(ExtractionFailed, match="no YAML"):
        run("MLflow", {"MLmodel": f"flavors: !!python/object/apply:os.system ['touch {canary}']\n"})


def test_links_and_devices_are_no_model_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((SAMPLES / "onnx" / "model.onnx").read_bytes())
    for make in (lambda path: path.symlink_to(secret), os.mkfifo):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder / "m.onnx")
        with pytest.raises(ExtractionFailed, match="there is no file"):
            run_extraction(folder, "ONNX")


def test_nested_json_does_not_bring_the_child_down(run: Run) -> None:
    deep = b'{"learner": ' + b"[" * 1_000_000
    with pytest.raises(ExtractionFailed, match=r"cut off|no JSON"):
        run("XGBoost", {"m.json": deep})
    with pytest.raises(ExtractionFailed, match="no JSON"):
        run("MXNetParams", {"m-symbol.json": b"[" * 1_000_000, "m.params": b""})


def test_memory_beyond_the_limit_is_an_error_in_words(run: Run) -> None:
    header = json.dumps(
        {f"tensor-{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}
    )
    content = len(header).to_bytes(8, "little") + header.encode()
    with pytest.raises(ExtractionFailed, match="more memory than it may"):
        run("Safetensors", {"m.safetensors": content}, Limits(memory_mb=24))


def test_time_beyond_the_limit_is_an_error_in_words(run: Run) -> None:
    content = b"\x08\x01" * 20_000_000
    with pytest.raises(ExtractionFailed, match="1 s of processor time"):
        run("ONNX", {"m.onnx": content}, Limits(cpu_s=1))
    with pytest.raises(ExtractionFailed, match=r"longer than 0\.3 s"):
        run("ONNX", {"m.onnx": content}, Limits(time_s=0.3))


def test_a_result_that_is_too_long_is_an_error_in_words(run: Run) -> None:
    from tests.library.formats.extract import onnx_writing as onnx

    nodes = [onnx.node(f"Kind{i}" + "x" * 100, [], []) for i in range(2_000)]
    with pytest.raises(ExtractionFailed, match="too much"):
        run("ONNX", {"m.onnx": onnx.model(onnx.graph(nodes, [], []))}, Limits(output_bytes=10_000))


def test_an_unknown_format_is_refused_before_any_child_starts(tmp_path: Path) -> None:
    with pytest.raises(ExtractionFailed, match="'Pickle' cannot be extracted; possible are SavedModel, ONNX"):
        run_extraction(tmp_path, "Pickle")
