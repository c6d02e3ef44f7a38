"""What a conversion's child process is asked, and what a backend's entry offers (NumPy only).

The parent writes `job.json` into a folder, starts `child.py` with it, and reads `result.json`. Locally and in
a container the folder looks the same:

```text
<folder>/
  job.json           a Job; the child may read it
  output.log         what the child prints; it does not see it
  samples/           in-<i>.npz: inputs, named; <label>-<i>.npz: what the model made of them
  target/            files that the conversion writes
  work/              current folder, HOME and TMPDIR
  work/result.json   signature, versions, seconds; or a Problem
```

The child writes in the three folders alone, so that it can put no link where the parent writes.

What a library prints goes to stdout and stderr, which nobody takes for a result.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from catchment.formats.convert.samples import Arrays, Known
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, specs

JOB, SAMPLES, TARGET, WORK = "job.json", "samples", "target", "work"
RESULT = f"{WORK}/result.json"

Step = Literal["convert", "draw", "predict", "check"]
Reason = Literal["unsupported", "refused", "field", "failed"]


class UnsupportedModelError(Exception):
    """This backend cannot convert this model, another one might: it does not know an operator or a layer."""


class RefusedModelError(Exception):
    """No backend may or can convert this model; the message says why."""


@dataclass(frozen=True)
class Job:
    """One start of a backend.

    Attributes:
        folder: the job's folder.
        backend: whose entry is used.
        source: folder with the model's files; read-only.
        source_format, target_format: as configs spell them.
        steps: what to do with the opened model, in this order: "convert" it, "check" it, "draw" samples,
            "predict" what the model makes of the samples that lie there.
        label: the predictions' file names begin with it.
        given: inputs that are known from outside of the file.
        outputs: names that the outputs are to have where the file has none.
        given_by: where they come from, for messages: "signature.inputs" or "inputs".
        options: of the conversion.
        seed, randoms: of the drawn samples.
        cpu_s: processor seconds that the process may use.
    """

    folder: Path
    backend: str
    source: Path
    source_format: str
    target_format: str
    steps: tuple[Step, ...]
    label: str = "source"
    given: tuple[TensorSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    given_by: str = "inputs"
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    randoms: int = 3
    cpu_s: int = 3600

    @property
    def target(self) -> Path:
        """Folder that the conversion writes to."""
        return self.folder / TARGET

    def write(self) -> None:
        """Write `job.json`."""
        values = {**asdict(self), "given": [each.to_json() for each in self.given]}
        (self.folder / JOB).write_text(json.dumps(values, default=str))

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job that `write` wrote."""
        values = json.loads((folder / JOB).read_bytes())
        values["folder"], values["source"] = Path(values["folder"]), Path(values["source"])
        values["steps"], values["given"] = tuple(values["steps"]), specs(values["given"], "given")
        values["outputs"] = tuple(values["outputs"])
        return cls(**values)

    def one_file(self, *patterns: str) -> Path:
        """The only file at the top of the source that fits one of the patterns.

        Raises:
            RefusedModelError: there is none, or more than one.
        """
        found = sorted({path for each in patterns for path in self.source.glob(each) if path.is_file()})
        if len(found) != 1:
            there = ", ".join(path.name for path in found) or "none"
            wanted = " or ".join(patterns)
            raise RefusedModelError(f"a {self.source_format} model has one file {wanted}; there is {there}")
        return found[0]


@dataclass(frozen=True)
class Problem:
    """Why a child did not do what it was asked.

    Attributes:
        reason: "unsupported": another backend may be tried; "field": a field of the input is wrong;
            "refused": the model itself is; "failed": the converter broke.
        message: a sentence.
        field: of "field".
    """

    reason: Reason
    message: str
    field: str = ""


class Model(Protocol):
    """A model that a backend has opened."""

    signature: ModelSignature
    takes_missing: bool

    def convert(self, job: Job) -> None:
        """Write the model to `job.target` in `job.target_format`."""

    def predict(self, sample: Arrays) -> Arrays:
        """What the model makes of one sample, by the names of the signature's outputs."""

    def check(self) -> dict[str, Any]:
        """Facts about a converted model, for the gate; raises when it is broken."""


@runtime_checkable
class KnowsPlaces(Protocol):
    """What a `Model` may offer besides: it says itself around which values its answers change."""

    def known(self, generator: np.random.Generator) -> Known:
        """Such values of its only input."""


class Entry(Protocol):
    """The module `entry` of a backend."""

    PACKAGES: tuple[str, ...]
    """Distributions whose versions the report names."""

    def open_model(self, job: Job) -> Model:
        """Open the source."""
