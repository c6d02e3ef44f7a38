"""The task folder: how a site's agent hands one work to a training script, and gets its results back.

```text
<folder>/
  task.json             TaskFile; its path is in the environment variable CATCHMENT_TASK
  weights.safetensors   the round's global weights, read-only
  state.safetensors     arrays of the job's strategy for every client, where it has such
  client_state.safetensors  what this site kept of its last round of the job, where it kept something
  prepared/             files from the coordinator (fl.get_file)
  update.safetensors    written by fl.commit_weights   (rank 0 only)
  next_client_state.safetensors  written by fl.commit_weights: what it keeps if the round takes its update
  metrics.json          written by fl.commit_metrics   (rank 0 only)
  parameters.json       written by fl.put_parameter(s) (rank 0 only)
  result/               written by fl.put_file         (rank 0 only)
  files.zip             what was in result/, packed by the agent when the script has ended
  tmp/                  the script's TMPDIR
<folder>/../output.log  stdout and stderr of the script, bounded
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catchment.wire.messages import Algorithm, Message, Runtime, WorkKind

TASK_VARIABLE = "CATCHMENT_TASK"
WEIGHTS = "weights.safetensors"
STATE = "state.safetensors"
CLIENT_STATE = "client_state.safetensors"
NEXT_CLIENT_STATE = "next_client_state.safetensors"
UPDATE = "update.safetensors"
METRICS = "metrics.json"
PARAMETERS = "parameters.json"
PREPARED = "prepared"
RESULT = "result"
FILES = "files.zip"
OUTPUT_LOG = "output.log"


class TaskFile(Message):
    """What a script's SDK knows about the work that it runs for."""

    kind: WorkKind
    namespace: str
    job_id: str
    run: int
    round: int
    runtime: Runtime
    seed: int
    datasets: dict[str, str] = {}
    """Data set name -> absolute path at this site; only those that the job names."""
    parameters: dict[str, Any] = {}
    """Custom parameters from the coordinator (fl.get_parameter); not the command line's."""
    strategy: Algorithm | None = None
    optimizer: Algorithm | None = None
    loss: Algorithm | None = None
    dry_run: bool = False

    @classmethod
    def read(cls, path: Path) -> TaskFile:
        """The task file at `path`."""
        return cls.model_validate_json(path.read_bytes())
