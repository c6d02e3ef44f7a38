"""What is refused when a job with extenders is submitted, and in which field's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from catchment.errors import InvalidField
from catchment.jobs import lifecycle
from catchment.store import Store
from tests.thread_sites import job

GOOD = "ext/good.py"


@pytest.fixture
def folder(store: Store) -> Path:
    root = store.settings.home / "namespaces" / "default"
    (root / "ext").mkdir(parents=True)
    (root / GOOD).write_text("def f(parameters):\n    raise SystemExit('this is not run at submit')\n")
    (root / "ext/plain.txt").write_text("x")
    (root / "ext/bad.py").write_text("def f(:\n")
    (root / "ext/nul.py").write_bytes(b"\0")
    (root / "ext/deep.py").write_text("(" * 100_000)
    (root / "ext/bound.py").write_text(
        "import os.path\nfrom functools import reduce as folded\nassigned = len\n"
        "if True:\n    def inner(): ...\nelse:\n    other = 1\n"
        "try:\n    pass\nexcept ValueError:\n    async_free = 1\nclass Cls:\n    def method(self): ...\n"
    )
    (root / "ext/star.py").write_text("from os.path import *\n")
    (root.parent / "outside.py").write_text("def f(): ...\n")
    (root / "ext/leads_out.py").symlink_to(root.parent / "outside.py")
    return root


@pytest.mark.parametrize(
    ("extenders", "field", "problem"),
    [
        ({"script_path": "ext/none.py"}, "extenders.script_path", "there is no file"),
        ({"script_path": "ext"}, "extenders.entry", "entry names the Python file"),
        ({"script_path": "ext", "entry": "none.py"}, "extenders.entry", "there is no Python file 'none.py'"),
        ({"script_path": "ext", "entry": "plain.txt"}, "extenders.entry", "there is no Python file"),
        ({"script_path": "ext", "entry": "../good.py"}, "extenders.entry", "without '..'"),
        ({"script_path": GOOD, "entry": "bad.py"}, "extenders.entry", "names the file 'good.py'"),
        ({"script_path": "ext/plain.txt"}, "extenders.script_path", "must end in .py"),
        ({"script_path": "../outside.py"}, "extenders.script_path", "without '..'"),
        ({"script_path": "/etc/passwd"}, "extenders.script_path", "relative to the namespace"),
        ({"script_path": "ext/leads_out.py"}, "extenders.script_path", "symbolic link"),
        ({"script_path": "ext/bad.py"}, "extenders.script_path", "no Python in line 1"),
        ({"script_path": "ext/nul.py"}, "extenders.script_path", "no Python"),
        ({"script_path": "ext/deep.py"}, "extenders.script_path", "no Python"),
        ({"script_path": GOOD, "aggregate": "g"}, "extenders.aggregate", "defines no function 'g'"),
        ({"script_path": GOOD, "finish": "a b"}, "extenders", "finish is 'a b'"),
        ({"script_path": GOOD, "finish": 3}, "extenders.finish", "valid string"),
        ({"script_path": GOOD, "begin": "f"}, "extenders.begin", "is not a field"),
        ({"script_path": "ext/bound.py", "finish": "method"}, "extenders.finish", "no function 'method'"),
    ],
)
def test_what_cannot_be_called_is_refused(store, folder, extenders, field, problem):
    if not {"broadcast", "aggregate", "finish"} & set(extenders):
        extenders = {**extenders, "broadcast": "f"}
    with pytest.raises(InvalidField, match=problem) as refused:
        lifecycle.create_job(store, "default", job(extenders=extenders))
    assert refused.value.field == field


@pytest.mark.parametrize(
    "extenders",
    [
        {"script_path": GOOD, "broadcast": "f"},
        {"script_path": "ext", "entry": "good.py", "finish": "f"},
        {"script_path": GOOD, "entry": "good.py", "aggregate": "f", "broadcast": "", "finish": None},
        {"script_path": GOOD},
        {"script_path": "ext/none.py"},
        {"script_path": "ext/bound.py", "broadcast": "folded", "aggregate": "assigned", "finish": "inner"},
        {"script_path": "ext/bound.py", "broadcast": "other", "aggregate": "Cls", "finish": "async_free"},
        {"script_path": "ext/star.py", "broadcast": "join"},
        {"script_path": "", "broadcast": "no name"},
        {"broadcast": "no name"},
        {},
    ],
)
@pytest.mark.parametrize("key", ["extenders", "extender"])
def test_any_subset_is_taken_under_both_names(store, folder, extenders, key):
    lifecycle.create_job(store, "default", job(**{key: extenders}))
    shown = lifecycle.get_job(store, "default", "j")["extenders"]
    assert shown == {name: value for name, value in extenders.items() if value is not None}
