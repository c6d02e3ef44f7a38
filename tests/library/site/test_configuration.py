"""Options and files of an agent: what is wrong is named before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from catchment.cli.site import site
from catchment.errors import PolicyRefused, SetupError, SiteError
from catchment.site.cgroups import Cgroups
from catchment.site.config import read_datasets, read_listed, read_token
from catchment.site.environment import cleaned
from catchment.site.home import Home, folder_name
from catchment.site.limits import data_limit_mb
from catchment.site.placement import Places
from catchment.site.policy import Policy, chosen_datasets
from catchment.wire.messages import Resource

DIGEST = "sha256:" + "a" * 64


def test_data_sets_are_found_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f.npz").touch()
    path = tmp_path / "datasets.json"
    path.write_text(f'{{"digits": "d", "faces": "{tmp_path}/f.npz"}}')
    assert read_datasets(path) == {"digits": tmp_path / "d", "faces": tmp_path / "f.npz"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"faces": "gone"}', "data set 'faces': .*gone does not exist"),
        ('{"a,b": "."}', "'a,b' is no name"),
        ('["faces"]', "must be a JSON object"),
        ('{"faces": 5}', "must be a JSON object"),
        ("{", "must be a JSON object"),
    ],
)
def test_wrong_data_sets_are_named(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "datasets.json"
    path.write_text(content)
    with pytest.raises(SetupError, match=problem):
        read_datasets(path)


def test_a_data_set_that_went_away_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="path of the data set 'faces' is not there now"):
        chosen_datasets(["faces"], {"faces": tmp_path / "gone"})


def test_lists_and_tokens_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(f"# ours\n\n{DIGEST} # reviewed\n")
    assert read_listed(path) == {DIGEST}
    path.write_text(f"{DIGEST}\nsha256:12\n")
    with pytest.raises(SetupError, match="line 2: 'sha256:12' is no digest"):
        read_listed(path)
    path.write_text(" abc \n")
    assert read_token(path) == "abc"
    path.write_text("\n")
    with pytest.raises(SetupError, match="holds no token"):
        read_token(path)


def test_policy_says_what_to_do() -> None:
    Policy("always").check_scripts(DIGEST)
    Policy("listed", frozenset({DIGEST})).check_scripts(DIGEST)
    with pytest.raises(PolicyRefused, match=f"{DIGEST} is not listed; after a review, add the digest"):
        Policy("listed").check_scripts(DIGEST)
    with pytest.raises(PolicyRefused, match="--allow-scripts"):
        Policy().check_scripts(DIGEST)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "Site_1"], "--name 'Site_1'"),
        (["--server", "nowhere"], "is no address of a server"),
        (["--address", "a b"], "--address 'a b'"),
        (["--allow-scripts", "listed"], "need each other"),
        (["--allowed-scripts", "x"], "need each other"),
        (["--max-task-parallelism", "0"], "would never run anything"),
        (["--max-task-parallelism", "-2"], "x>=-1"),
        (["--gpu", "99"], "this machine shows"),
        (["--entries", "gone"], "--entries gone is no folder"),
        (["--datasets", "gone"], "gone must be a JSON object"),
        (["--token-file", "gone"], "cannot read the token"),
        (["--runtime", "tensorflow"], "tensorflow"),
    ],
)
def test_wrong_options_end_with_code_2_and_their_name(tmp_path: Path, options: list[str], words: str) -> None:
    given = [
        "start",
        "--name",
        "s",
        "--server",
        "http://127.0.0.1:1",
        "--home",
        str(tmp_path / "h"),
        *options,
    ]
    result = CliRunner().invoke(site, given)
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "h").exists()


def test_a_dry_run_tries_an_entry(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros((1, 2), np.float32)}, tmp_path / "w.safetensors")
    (tmp_path / "e.json").write_text('{"evaluate": {"entry": "e.py", "params": {"--n": 2}}}')
    (tmp_path / "e.py").write_text(
        "import sys; import catchment.sdk as fl\nassert sys.argv[1:] == ['--n', '2', '--m', '3'], sys.argv\n"
        "fl.commit_metrics({'accuracy': 0.5, 'sample_num': 3})"
    )
    common = ["dry-run", "--weights", str(tmp_path / "w.safetensors"), "--runtime", "pytorch"]
    entry = ["--entry", str(tmp_path / "e.json")]
    result = CliRunner().invoke(site, [*common, *entry, "--evaluate", "--", "--m", "3"])
    assert result.exit_code == 0, result.output
    assert "accuracy 0.5" in result.output
    result = CliRunner().invoke(site, [*common, *entry])
    assert result.exit_code == 1
    assert "e.json has no part 'train'; it has evaluate" in result.output


def test_our_own_variables_stay_with_the_agent() -> None:
    environ = {"CATCHMENT_DATABASE_URL": "x", "PREFECT_API_KEY": "x", "PATH": "p", "HOME": "h"}
    assert cleaned(environ) == {"PATH": "p", "HOME": "h"}


def test_ids_become_plain_names() -> None:
    assert folder_name("digits-1-3.a_b") == "digits-1-3.a_b"
    for name in ("../x", "a/b", ".", "..", ".hidden", "", "x" * 300, "a b"):
        assert "/" not in folder_name(name)
        assert folder_name(name).startswith("id-")


def test_only_the_newest_logs_are_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.open()
    for number in range(30):
        home.log_file("job", str(number), "train", "w/../x").touch()
    home.tidy_logs()
    assert len(list(home.logs.iterdir())) == 20
    home.close()


def test_gpus_are_for_one_work_and_cores_are_shared_evenly() -> None:
    places = Places(["0", "3"], [0, 1, 2, 3])
    two = Resource(gpu=1, worker_num=2, cpu=1.5)
    with pytest.raises(SiteError, match="asks for 3 GPUs at a site, this site has 2"):
        places.check(Resource(gpu=3))
    first = places.take(two)
    assert first is not None
    assert (first.gpus, first.cores) == (("0", "3"), (0, 1, 2))
    assert places.take(Resource(gpu=1)) is None
    second = places.take(Resource(cpu=0.5))
    assert second is not None
    assert second.cores == (3,)
    places.give_back(first)
    again = places.take(Resource(gpu=1))
    assert again is not None
    assert (again.gpus, again.cores) == (("0",), (0,))


def test_reserved_memory_has_room_for_a_framework_and_none_is_bound_with_gpus() -> None:
    assert data_limit_mb(1000, 0) == 3000
    assert data_limit_mb(1000, 1) == 0


def fake_tree(tmp_path: Path, controllers: str) -> Path:
    own = tmp_path / "root" / "system.slice" / "site.service"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.subtree_control").touch()
    (tmp_path / "membership").write_text("0::/system.slice/site.service\n")
    return own


def test_a_delegated_control_group_limits_each_work(tmp_path: Path) -> None:
    own = fake_tree(tmp_path, "cpuset cpu io memory pids")
    groups = Cgroups.delegated(tmp_path / "root", tmp_path / "membership")
    assert groups is not None
    assert (own / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert (own / "agent" / "cgroup.procs").read_text().isdecimal()
    group = groups.create("w1", Resource(worker_num=2, cpu=1.5, memory=500), 500)
    assert (group.folder / "memory.max").read_text() == "1000000000"
    assert (group.folder / "cpu.max").read_text() == "300000 100000"
    (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 0\n")
    assert not group.killed_for_memory()
    (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.killed_for_memory()


@pytest.mark.parametrize("membership", ["0::/elsewhere\n", "4:memory:/x\n"])
def test_without_delegation_there_are_no_control_groups(tmp_path: Path, membership: str) -> None:
    fake_tree(tmp_path, "cpu memory")
    assert Cgroups.delegated(tmp_path / "root", tmp_path / "membership") is None
    (tmp_path / "membership").write_text(membership)
    assert Cgroups.delegated(tmp_path / "root", tmp_path / "membership") is None
