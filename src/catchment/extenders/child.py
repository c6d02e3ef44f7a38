"""The child process of a job's extenders: confines itself, loads the script, calls one function.

It is started by its path in Python's isolated mode, with a folder as its only argument:

```text
<folder>/
  call.json      what to call, with which arguments, under which limits
  script/        the unpacked script
  work/          current folder, HOME and TMPDIR of the function
  out/           files that the function makes for the coordinator
  result.json    {"result": ...} or {"error": "..."}, written at the end; "missing": limits not enforced
```

What the function prints goes to stdout and stderr, which nobody takes for a result.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

CALL, RESULT, SCRIPT, WORK, OUT = "call.json", "result.json", "script", "work", "out"


def main(folder: Path) -> NoReturn:
    """Make the call that the folder describes and end this process; the guardian ends what it has started."""
    call = json.loads((folder / CALL).read_bytes())
    # In front: this very package, whatever else of that name is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from catchment.extenders.confine import confine
    from catchment.extenders.guardian import guard

    guard()
    told: dict[str, Any] = {"missing": confine(call["memory_mb"], call["file_mb"])}
    try:
        told["result"] = _called(folder, call)
    except BaseException as error:  # noqa: BLE001 - the edge of the process; a script may raise anything
        traceback.print_exc()
        told["error"] = f"{type(error).__name__}: {error}".removesuffix(": ")[:2000]
    staged = folder / f"{RESULT}.new"
    staged.write_text(json.dumps(told))
    staged.replace(folder / RESULT)
    _flush()
    os._exit(0)  # threads and exit handlers of the script have no say any more


def _called(folder: Path, call: dict[str, Any]) -> Any:
    # Before the script's folder is on the path: a file of its own named numpy.py is not meant for us.
    from catchment.extenders import calls

    function = _function(folder / SCRIPT, call["entry"], call["name"])
    return calls.CALLS[call["step"]](function, call["arguments"], folder)


def _function(scripts: Path, entry: str, name: str) -> Callable[..., Any]:
    path = scripts / entry
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("extender_script", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{entry} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise TypeError(f"{name} in {entry} is no function")
    return function  # type: ignore[no-any-return]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # the script has closed or replaced it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
