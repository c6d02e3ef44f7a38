"""The equivalence gate: nothing that was converted is used before it was checked, loaded and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catchment.errors import BadTensors, GateFailed
from catchment.formats.convert import sample_files
from catchment.formats.convert.comparing import OutputError, Tolerance, compare_output
from catchment.formats.convert.samples import RANDOM, TENSORS, Arrays, Kind
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec

SOURCE, RESULT = "source", "result"
"""Labels of the predictions' files."""


@dataclass(frozen=True)
class EquivalenceReport:
    """What the gate found.

    Attributes:
        source_format, target_format: as configs spell them.
        backend: that converted.
        reference: that ran the source; "" when no runtime of the source exists here: then nothing was
            compared in numbers, and `notes` say so.
        runtime: that ran the result.
        lossy: the conversion changes numbers by design, and another tolerance holds.
        tolerance: per output's dtype when None was asked for; see `Tolerance`.
        seed: that the samples were drawn from.
        samples: names of those that both sides took.
        outputs: the errors.
        facts: of the result: opsets, number of nodes.
        versions: of the packages that took part.
        notes: what else a person should know, in sentences.
        problems: why the gate failed; empty when it passed.
        seconds: of its parts.
    """

    source_format: str
    target_format: str
    backend: str
    reference: str
    runtime: str
    lossy: bool
    tolerance: float | None
    seed: int
    samples: tuple[str, ...] = ()
    outputs: tuple[OutputError, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    seconds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the result may be used."""
        return not self.problems

    @property
    def max_abs_error(self) -> float | None:
        """The largest error of all outputs; None when nothing was compared."""
        return max((each.max_abs for each in self.outputs), default=None)

    def to_json(self) -> dict[str, Any]:
        """As it is stored with the version and shown in GET; infinite numbers as text."""
        told = {**vars(self), "outputs": [each.to_json() for each in self.outputs], "passed": self.passed}
        return {name: _plain(value) for name, value in told.items()}

    def require_pass(self) -> None:
        """Raises GateFailed, with the numbers, when the gate did not pass."""
        if self.problems:
            raise GateFailed(
                f"{self.source_format} to {self.target_format} with {self.backend}: "
                + "; ".join(self.problems),
                self.to_json(),
            )


def signature_problems(source: ModelSignature, result: ModelSignature) -> list[str]:
    """What names, layouts and dtypes of the result are not the source's.

    Outputs are compared where the source's file names them.
    """
    problems = _ends("input", source.inputs, result.inputs)
    return problems + (_ends("output", source.outputs, result.outputs) if source.outputs else [])


def _ends(what: str, source: Sequence[TensorSpec], result: Sequence[TensorSpec]) -> list[str]:
    theirs = {each.name: each for each in result}
    ours = {each.name: each for each in source}
    problems = [f"{what} {name} of the source is gone" for name in ours if name not in theirs]
    problems += [f"{what} {name} is not one of the source's" for name in theirs if name not in ours]
    for name, spec in ours.items():
        if name in theirs and not spec.fits(theirs[name]):
            problems.append(f"{what} is {theirs[name]}, of the source {spec}")
        elif name in theirs and (closed := _closed(what, spec, theirs[name])) is not None:
            fixed = f"dimension {closed}" if closed else "batch"
            problems.append(f"{what} {name} has a fixed {fixed}, of the source it is free: {theirs[name]}")
    return problems


def _closed(what: str, source: TensorSpec, result: TensorSpec) -> int | None:
    """The first dimension that was open and is not any more; of outputs a result may know more lengths."""
    pairs = list(zip(source.shape or (), result.shape or (), strict=False))
    looked_at = pairs if what == "input" else pairs[:1]
    closed = (index for index, (ours, theirs) in enumerate(looked_at) if ours is None and theirs is not None)
    return next(closed, None)


@dataclass(frozen=True)
class Compared:
    """The numeric half of the gate."""

    samples: tuple[str, ...] = ()
    outputs: tuple[OutputError, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def compare(
    folder: Path,
    kinds: Sequence[Kind],
    not_taken: Mapping[str, Mapping[str, str]],
    tolerance: Tolerance,
) -> Compared:
    """Compare the predictions of both sides, as they lie in the job's folder.

    A sample that the source itself does not take (an index beyond its table) is left out with a note; one
    that only the result refuses is a problem. At least one random sample must be left.

    Args:
        folder: of the job.
        kinds: of the samples.
        not_taken: label -> index of a sample -> why the model did not take it.
        tolerance: what may differ.
    """
    notes, problems = [], []
    pairs: list[tuple[Kind, Arrays, Arrays]] = []
    for index, kind in enumerate(kinds):
        refused = {label: not_taken.get(label, {}).get(str(index), "") for label in (SOURCE, RESULT)}
        if refused[SOURCE]:
            notes.append(f"the source does not take the sample {kind.name}: {refused[SOURCE]}")
        elif refused[RESULT]:
            problems.append(f"the result does not take the sample {kind.name}: {refused[RESULT]}")
        else:
            try:
                both = [sample_files.read(folder, label, index) for label in (SOURCE, RESULT)]
            except BadTensors as error:
                problems.append(f"the sample {kind.name}: {error}")
            else:
                pairs.append((kind, both[0], both[1]))
    if not any(kind.name.startswith((RANDOM, TENSORS)) for kind, _, _ in pairs) and not problems:
        problems.append("the source took no random sample, so that nothing could be compared")
    outputs, named = _outputs(pairs, tolerance)
    problems += named + [
        f"output {each.name}: {each.problem} (sample {each.worst})" for each in outputs if each.problem
    ]
    return Compared(tuple(kind.name for kind, _, _ in pairs), outputs, tuple(notes), tuple(problems))


def _outputs(
    pairs: Sequence[tuple[Kind, Arrays, Arrays]], tolerance: Tolerance
) -> tuple[tuple[OutputError, ...], list[str]]:
    for kind, source, result in pairs:
        if set(source) != set(result):
            there = [", ".join(sorted(each)[:10]) for each in (source, result)]
            return (), [f"for the sample {kind.name} the source gives {there[0]}; the result {there[1]}"]
    if not pairs:
        return (), []
    return tuple(compare_output(name, pairs, tolerance) for name in pairs[0][1]), []


def _plain(value: Any) -> Any:
    """JSON has no infinity, and a report of a failed gate does."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
