"""The child process that reads a model: it confines itself, prints one JSON document, and ends.

```text
python -I -B __main__.py FOLDER FORMAT [LIMITS]
```

LIMITS is a JSON object, see `running.Limits`; without it nothing is confined. Printed is what
`Extracted.to_json` gives, or `{"error": sentence}` with exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> int:
    """Read the model, print the document; return the exit code."""
    # In front: this very package, whatever else of that name is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    folder, format_name, *rest = arguments
    limits = json.loads(rest[0]) if rest else None
    told = _told(Path(folder), format_name, limits)
    data = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
    if limits and len(data) > limits["output_bytes"]:
        told = {"error": f"what the model says of itself are {len(data)} bytes, which is too much"}
        data = json.dumps(told).encode()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.flush()
    return 1 if "error" in told else 0


def _told(folder: Path, format_name: str, limits: dict[str, Any] | None) -> dict[str, Any]:
    from catchment.errors import CatchmentError
    from catchment.formats.extract import readers

    try:
        if limits is not None:
            from catchment.formats.extract import confining

            for missing in confining.confine(limits):
                print("not confined:", missing, file=sys.stderr)
        return readers.extract(folder, format_name).to_json()
    except CatchmentError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "reading the model takes more memory than it may"}
    except Exception as error:  # noqa: BLE001 - the edge of the process; whatever a file brings about is told
        import traceback

        traceback.print_exc()
        return {"error": f"the model's files are damaged or unusual ({type(error).__name__}: {error})"[:500]}


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # nothing is left to tidy up, and a mapping of a huge file takes time
