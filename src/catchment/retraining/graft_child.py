"""The child process that puts weights into a graph: it confines itself and writes the result to its stdout.

```text
python -I -B graft_child.py MODEL WEIGHTS ORDER
```

ORDER is a JSON object: the limits of `formats.extract.running`, the parent's id, and `keep`. What is wrong is
the last line of stderr, with exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Write the grafted model; return the exit code."""
    # In front: this very package, whatever else of that name is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from catchment.errors import CatchmentError
    from catchment.formats import protobuf
    from catchment.formats.extract import confining
    from catchment.models.reading import TensorFile
    from catchment.retraining.grafting import graft

    model, weights, told = arguments
    order = json.loads(told)
    try:
        confining.confine(order)
        with TensorFile.open(Path(weights)) as tensors:
            for piece in graft(protobuf.mapped(Path(model)), tensors, order["keep"]):
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except (CatchmentError, protobuf.Broken) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print("BadArtifact: the graph takes more memory than it may", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # nothing is left to tidy up, and a mapping of a huge file takes time
