"""The init container's program: a model from a real registry, checked by digest, laid out for its runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from catchment.errors import BadArtifact, DigestMismatch, InvalidField, Refused
from catchment.models.files import files_of, version_digest, with_checksums
from catchment.models.folders import inside_model
from catchment.registry.copying import Place
from catchment.registry.credentials import CredentialsFile
from catchment.registry.opening import Access
from catchment.registry.pushing import push_folder
from catchment.serving.initializer.fetching import LOCK, install
from catchment.serving.initializer.layouts import Description, arrange
from catchment.serving.initializer.sources import ModelSource, parse_source
from tests.registry_servers import PASSWORD, USER, Server, docker_registry
from tests.serving_workloads import DIGEST, X, Y

NEEDED = [pytest.mark.needs("docker-registry"), pytest.mark.needs("htpasswd")]
ROOT = Path(__file__).resolve().parents[4]
NAMES = {
    "ONNX": ["net.onnx", "net.weights"],
    "SavedModel": ["saved_model.pb", "variables/variables.index", "assets/words.txt"],
    "TorchScript": ["net.pt"],
    "GraphDef": ["net.graphdef"],
    "NetDef": ["init_net.pb", "predict_net.pb"],
    "TensorRT": ["net.engine"],
    "SKLearn": ["net.joblib"],
    "XGBoost": ["net.ubj"],
    "MLflow": ["MLmodel", "model.pkl"],
    "PMML": ["net.pmml"],
}


def make_model(folder: Path, format_name: str) -> str:
    """A model's folder as people keep it; the digest of its version."""
    for name in NAMES[format_name]:
        path = folder / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 500)
    about = {"format": format_name, "signature": {"inputs": [X], "outputs": [Y]}}
    (folder / "ormbfile.yaml").write_text(yaml.safe_dump(about))
    files = [with_checksums(each) for each in files_of(folder / "model")]
    return version_digest({inside_model(each.name): each.digest for each in files})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with docker_registry(tmp_path_factory.mktemp("registry"), login=True) as found:
        yield found


def environment(server: Server, **more: str) -> dict[str, str]:
    return {
        "CATCHMENT_REGISTRY_HOST": server.host,
        "CATCHMENT_REGISTRY_USERNAME": USER,
        "CATCHMENT_REGISTRY_PASSWORD": PASSWORD,
        **more,
    }


def access_to(server: Server, folder: Path) -> Access:
    return Access(CredentialsFile(folder / "none.json", environment(server)))


def push(server: Server, folder: Path, reference: str, scratch: Path) -> None:
    """What somebody pushed, or Catchment serves at /v2."""
    repository, _, tag = reference.partition(":")
    registry = access_to(server, scratch).remote(server.host)
    push_folder(folder, Place(registry, repository), tag)
    registry.close()


def tree(folder: Path) -> set[str]:
    hidden = {each.name for each in folder.iterdir() if each.name.startswith(".")}
    return {
        str(each.relative_to(folder))
        for each in folder.rglob("*")
        if each.is_file() and each.relative_to(folder).parts[0] not in hidden
    }


LAID_OUT = {
    ("ONNX", "files"): {"model/net.onnx", "model/net.weights", "ormbfile.yaml"},
    ("PMML", "files"): {"model/net.pmml", "ormbfile.yaml"},
    ("ONNX", "triton"): {"config.pbtxt", "1/model.onnx", "1/net.weights"},
    ("ONNX", "triton-repository"): {
        "digits/config.pbtxt",
        "digits/1/model.onnx",
        "digits/1/net.weights",
    },
    ("SavedModel", "triton"): {
        "config.pbtxt",
        "1/model.savedmodel/saved_model.pb",
        "1/model.savedmodel/variables/variables.index",
        "1/model.savedmodel/assets/words.txt",
    },
    ("TorchScript", "triton"): {"config.pbtxt", "1/model.pt"},
    ("GraphDef", "triton"): {"config.pbtxt", "1/model.graphdef"},
    ("NetDef", "triton"): {"config.pbtxt", "1/model.netdef", "1/init_model.netdef"},
    ("TensorRT", "triton"): {"config.pbtxt", "1/model.plan"},
    ("SKLearn", "mlserver"): {"model-settings.json", "model/net.joblib"},
    ("XGBoost", "mlserver"): {"model-settings.json", "model/net.ubj"},
    ("MLflow", "mlserver"): {"model-settings.json", "model/MLmodel", "model/model.pkl"},
}


@pytest.mark.parametrize(("format_name", "layout"), LAID_OUT)
def test_files_lie_where_the_runtime_looks(tmp_path: Path, format_name: str, layout: str) -> None:
    make_model(tmp_path / "pulled", format_name)
    (tmp_path / "mnt").mkdir()
    about = Description("digits", "v3", format_name, (X,), ({**Y, "name": "y__0"},))
    arrange(tmp_path / "pulled", tmp_path / "mnt", layout, about)  # type: ignore[arg-type]
    assert tree(tmp_path / "mnt") == LAID_OUT[format_name, layout]
    for file in tree(tmp_path / "mnt") - {"config.pbtxt", "model-settings.json", "ormbfile.yaml"}:
        if "config.pbtxt" not in file:
            assert (tmp_path / "mnt" / file).stat().st_size > 500


def test_netdefs_two_files_are_not_confused(tmp_path: Path) -> None:
    make_model(tmp_path / "pulled", "NetDef")
    (tmp_path / "mnt").mkdir()
    arrange(tmp_path / "pulled", tmp_path / "mnt", "triton", Description("d", "1", "NetDef", (X,), (Y,)))
    assert (tmp_path / "mnt/1/model.netdef").read_bytes().startswith(b"predict_net.pb")
    assert (tmp_path / "mnt/1/init_model.netdef").read_bytes().startswith(b"init_net.pb")


@pytest.mark.parametrize(
    ("format_name", "layout", "names", "words"),
    [
        ("SKLearn", "mlserver", ["net.skops"], "joblib"),
        ("SKLearn", "mlserver", ["a.joblib", "b.joblib"], r"a\.joblib, b\.joblib"),
        ("ONNX", "triton", ["a.onnx", "b.onnx"], r"\*\.onnx"),
        ("ONNX", "triton", [], "nothing"),
    ],
)
def test_what_the_runtime_cannot_load_is_refused(
    tmp_path: Path, format_name: str, layout: str, names: list[str], words: str
) -> None:
    (tmp_path / "pulled/model").mkdir(parents=True)
    for name in names:
        (tmp_path / "pulled/model" / name).write_text(name)
    about = Description("digits", "v3", format_name, (X,), (Y,))
    with pytest.raises(BadArtifact, match=words):
        arrange(tmp_path / "pulled", tmp_path, layout, about)  # type: ignore[arg-type]


@pytest.fixture
def pushed(server: Server, tmp_path: Path) -> ModelSource:
    """A model in the registry, and where it is."""
    digest = make_model(tmp_path / "digits", "ONNX")
    push(server, tmp_path / "digits", "default/digits:v3", tmp_path)
    return parse_source(
        f"catchment://{server.host}/default/digits:v3?digest={digest}&layout=files&name=digits"
    )


class TestFromARegistry:
    pytestmark = NEEDED

    def test_a_model_is_there_and_a_second_run_does_nothing(
        self, server: Server, pushed: ModelSource, tmp_path: Path
    ) -> None:
        target, access = tmp_path / "mnt", access_to(server, tmp_path)
        assert install(pushed, target, access, {}) is True
        assert tree(target) == LAID_OUT["ONNX", "files"]
        before = (target / "model/net.onnx").stat()
        assert install(pushed, target, access, {}) is False
        assert (target / "model/net.onnx").stat() == before

    def test_another_model_under_the_same_name_is_refused(
        self, server: Server, pushed: ModelSource, tmp_path: Path
    ) -> None:
        other = parse_source(str(pushed).replace(pushed.digest, DIGEST))
        with pytest.raises(DigestMismatch) as caught:
            install(other, tmp_path / "mnt", access_to(server, tmp_path), {})
        assert caught.value.actual == pushed.digest
        assert tree(tmp_path / "mnt") == set()

    def test_what_a_crash_left_is_cleared(self, server: Server, pushed: ModelSource, tmp_path: Path) -> None:
        target = tmp_path / "mnt"
        (target / ".model/model").mkdir(parents=True)
        (target / ".model/model/net.onnx").write_text("half")
        (target / "model").mkdir()
        (target / "model/old.onnx").write_text("of another version")
        (target / "link").symlink_to(tmp_path / "digits")
        install(pushed, target, access_to(server, tmp_path), {})
        assert tree(target) == LAID_OUT["ONNX", "files"]
        assert (tmp_path / "digits/model/net.onnx").is_file()

    def test_two_at_once_do_not_mix(self, server: Server, pushed: ModelSource, tmp_path: Path) -> None:
        import fcntl

        (tmp_path / "mnt").mkdir()
        with (tmp_path / "mnt" / LOCK).open("ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(Refused, match="another process"):
                install(pushed, tmp_path / "mnt", access_to(server, tmp_path), {})

    def test_the_artifact_says_its_signature_where_the_environment_does_not(
        self, server: Server, pushed: ModelSource, tmp_path: Path
    ) -> None:
        triton = parse_source(str(pushed).replace("layout=files", "layout=triton"))
        install(triton, tmp_path / "a", access_to(server, tmp_path), {})
        assert 'name: "x"' in (tmp_path / "a/config.pbtxt").read_text()
        told = {"FORMAT": "ONNX", "INPUTS": json.dumps([{**X, "name": "z"}]), "OUTPUTS": json.dumps([Y])}
        install(triton, tmp_path / "b", access_to(server, tmp_path), told)
        assert 'name: "z"' in (tmp_path / "b/config.pbtxt").read_text()

    @pytest.mark.parametrize("outputs", ["{}", "[1]", "[", '"x"'])
    def test_a_signature_that_is_none_is_refused(
        self, server: Server, pushed: ModelSource, tmp_path: Path, outputs: str
    ) -> None:
        told = {"FORMAT": "ONNX", "OUTPUTS": outputs}
        with pytest.raises(InvalidField, match="OUTPUTS"):
            install(pushed, tmp_path / "mnt", access_to(server, tmp_path), told)

    def test_the_program_fetches_and_tells(self, server: Server, pushed: ModelSource, tmp_path: Path) -> None:
        done = run(str(pushed), tmp_path / "mnt", environment(server))
        assert done.returncode == 0, done.stderr
        assert tree(tmp_path / "mnt") == LAID_OUT["ONNX", "files"]

    def test_the_exit_code_tells_whether_to_try_again(
        self, server: Server, pushed: ModelSource, tmp_path: Path
    ) -> None:
        wrong = run(str(pushed).replace(pushed.digest, DIGEST), tmp_path / "a", environment(server))
        assert wrong.returncode == 3
        assert "DigestMismatch" in wrong.stderr
        unknown = run(str(pushed).replace("digits:v3", "digits:v4"), tmp_path / "b", environment(server))
        assert unknown.returncode == 3
        assert "NotFound" in unknown.stderr
        stranger = environment(server, CATCHMENT_REGISTRY_PASSWORD="nonsense-word")
        refused = run(str(pushed), tmp_path / "c", stranger)
        assert refused.returncode == 3
        assert "nonsense-word" not in refused.stderr + refused.stdout


def run(source: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
    command = [sys.executable, "-m", "catchment.serving.initializer", source, str(folder)]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_usage_is_told_by_the_program(tmp_path: Path) -> None:
    done = run("default/digits:v3", tmp_path / "mnt", {})
    assert done.returncode == 3
    assert "names no registry" in done.stderr


SOURCE = f"catchment://h:1/p/n:v?digest={DIGEST}&layout=triton&name=digits"


def test_a_source_is_written_as_it_is_read() -> None:
    assert str(parse_source(SOURCE)) == SOURCE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p/n:v", "names no registry"),
        ("catchment://h:1/p/n:v", "lacks digest="),
        (SOURCE.replace("triton", "flat"), "no layout"),
        (SOURCE.replace("name=digits", "name=../etc"), "no name"),
        (SOURCE.replace(DIGEST, "sha256:1"), "no digest"),
        (SOURCE.replace("&layout=triton", ""), "lacks layout="),
    ],
)
def test_a_source_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words):
        parse_source(text)
