"""Every error that Catchment raises on purpose.

```text
CatchmentError
├── Refused                what was asked cannot be done as it stands; the message says what would be right
│   ├── InvalidField       one field of the input is wrong; carries the field's path
│   ├── WrongState         the thing exists, its state forbids the operation
│   ├── AlreadyExists      a thing of that name is there
│   ├── PathRefused        a path leaves its root, or is no plain path
│   └── TooLarge           a request has more bytes than the server takes
├── NotFound               no such namespace, job, site, blob or file
│   └── BlobsMissing       a manifest names blobs that were not pushed before it; carries their digests
├── Unauthorized           no token, or one that is not known
├── Forbidden              a known token without the right
├── BadTensors             bytes that are no tensor file, or tensors that must not be used
│   ├── TensorMismatch     names, shapes or dtypes differ from the global model's
│   └── UnsafeFile         a model file that wants to execute code
├── BadArtifact            bytes that are no model artifact, or one that must not be taken in
│   └── FormatMismatch     a model's files are not what its format asks for
├── ExtractionFailed       a model's files could not be read, or are made to do harm
├── TransferError          bytes did not arrive as announced
│   ├── DigestMismatch     SHA-256 differs from the announced digest
│   └── OffsetMismatch     a chunk does not continue what is stored; carries the right offset
├── SecureSumFailed        a secure sum cannot be completed; no single update was revealed
│   └── ProtocolRefused    a party will not do what a message asks, for that could reveal an update
├── RoundFailed            a round ended below its threshold
├── BudgetSpent            another round would cost more privacy than the job may
├── ExtenderFailed         a function of the job's extenders failed, hung or returned nothing usable
├── ConversionFailed       a model could not be converted: the converter broke, or was ended at a limit
│   ├── GateFailed         the converted model is not what its source was; carries the numbers
│   ├── BackendUnavailable  a converter's environment cannot be had on this machine
│   └── UnsupportedOperators   operators that a converter does not know; another one may
├── RetrainingFailed       a part of a retraining failed: its job, its conversion or its rollout
├── JobStopped             somebody asked the job to stop
├── LeaseLost              another process owns the run now
├── SiteError              a site cannot do the work it was given
│   ├── PolicyRefused      the site's own rules forbid it
│   └── ScriptFailed       the training script failed, hung or committed nothing usable
├── Unreachable            a server does not answer
│   ├── RateLimited        a registry was asked too often
│   ├── StepTimedOut       a step of a run took longer than it may
│   └── PodLost            the cluster took a pod away before it was done; another try may get to its end
├── ServingError           a model server cannot answer
│   ├── ModelUnusable      its model cannot be loaded, or fails its smoke inference
│   ├── NotServing         it loads its model still, or is stopping
│   ├── Overloaded         as many requests wait as may; carries when to try again
│   ├── DeadlinePassed     the inference did not end in time
│   ├── InferenceFailed    the model failed on these inputs
│   └── RolloutFailed      a new version may not take over; carries what was seen
├── PodFailed              a pod of the cluster did not do its work; carries the kind of problem
├── SetupError             the system cannot start as configured
│   └── ClusterRefused     a Kubernetes cluster denies Catchment a login or a right; carries verb and kind
└── SdkError               a training script used the SDK wrongly, or outside a task
```
"""

from __future__ import annotations

from typing import Any


class CatchmentError(Exception):
    """Base of all: catch it at a process edge, answer with its message."""


class Refused(CatchmentError):
    """What was asked cannot be done as it stands."""


class InvalidField(Refused):
    """One field of the input is wrong.

    Attributes:
        field: dotted path of the field, as the user wrote it.
        problem: what is wrong with it and what would be right.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class WrongState(Refused):
    """The thing exists, but its state forbids the operation."""


class AlreadyExists(Refused):
    """A thing of that name is there."""


class PathRefused(Refused):
    """A path leaves its root, or is no plain relative path."""


class TooLarge(Refused):
    """A request has more bytes than the server takes."""


class NotFound(CatchmentError):
    """No such namespace, job, site, blob or file."""


class BlobsMissing(NotFound):
    """A manifest names blobs that its repository does not have.

    Attributes:
        digests: of the blobs that have to be pushed first.
    """

    def __init__(self, digests: list[str]) -> None:
        super().__init__(f"push these blobs before the manifest that names them: {', '.join(digests)}")
        self.digests = digests


class Unauthorized(CatchmentError):
    """No token, or one that is not known."""


class Forbidden(CatchmentError):
    """A known token without the right to do this."""


class BadTensors(CatchmentError):
    """Bytes that are no tensor file, or tensors that must not be used (NaN, infinite, unknown dtype)."""


class TensorMismatch(BadTensors):
    """Names, shapes or dtypes differ from the global model's."""


class UnsafeFile(BadTensors):
    """A model file that wants to execute code when it is loaded."""


class BadArtifact(CatchmentError):
    """Bytes that are no model artifact (layer, zip, config, manifest), or one that must not be taken in."""


class FormatMismatch(BadArtifact):
    """A model's files are not what its format asks for; the message says which, and what is there."""


class ExtractionFailed(CatchmentError):
    """A model's files are not of their format, damaged, made to do harm, or too costly to read."""


class TransferError(CatchmentError):
    """Bytes did not arrive as announced."""


class DigestMismatch(TransferError):
    """The SHA-256 of what arrived differs from the announced digest."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"sha256 is {actual}, announced was {expected}")
        self.expected = expected
        self.actual = actual


class OffsetMismatch(TransferError):
    """A chunk does not continue what is stored; `offset` is where the next one must begin."""

    def __init__(self, offset: int, given: int) -> None:
        super().__init__(f"the chunk begins at byte {given}, {offset} bytes are stored")
        self.offset = offset


class SecureSumFailed(CatchmentError):
    """A secure sum cannot be completed: too few parties are left, or their shares do not fit."""


class ProtocolRefused(SecureSumFailed):
    """A party will not do what a message asks: it is altered, comes twice, or could reveal an update."""


class RoundFailed(CatchmentError):
    """A round ended below its threshold; the message names each site's outcome."""


class BudgetSpent(CatchmentError):
    """Another round would cost more privacy than the job's epsilon_budget."""


class ExtenderFailed(CatchmentError):
    """A function of the job's extenders failed, hung, or returned nothing that can be used.

    Attributes:
        field: the job's field that names the function, such as `extenders.aggregate`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class ConversionFailed(CatchmentError):
    """A model could not be converted: no backend knows it, the converter broke, or it was ended at a limit.

    Attributes:
        log: the end of what the converter printed, "" when nothing ran.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class GateFailed(ConversionFailed):
    """The converted model is broken, or not equivalent to its source.

    Attributes:
        report: the equivalence report as JSON, with the numbers.
    """

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class BackendUnavailable(ConversionFailed):
    """A converter's environment cannot be had on this machine.

    Attributes:
        backend: its name.
        reason: what lacks.
    """

    def __init__(self, backend: str, reason: str) -> None:
        super().__init__(f"backend {backend} is unavailable: {reason}")
        self.backend = backend
        self.reason = reason


class UnsupportedOperators(ConversionFailed):
    """Operators that a converter does not know; another converter may.

    Attributes:
        operators: each one's type, and the names of its places.
    """

    def __init__(self, noun: str, operators: dict[str, list[str]]) -> None:
        listed = "; ".join(f"{kind} ({', '.join(names)})" for kind, names in sorted(operators.items()))
        super().__init__(f"no conversion is known for these {noun}s: {listed}")
        self.operators = operators


class RetrainingFailed(CatchmentError):
    """A part of a retraining failed or took too long: its job, its conversion or its rollout."""


class JobStopped(CatchmentError):
    """Somebody asked the job to stop; the flow ends as cancelled."""


class LeaseLost(CatchmentError):
    """Another process owns the job's run now; this one must not write any more."""


class SiteError(CatchmentError):
    """A site cannot do the work that it was given."""


class PolicyRefused(SiteError):
    """The site's own rules forbid the work."""


class ScriptFailed(SiteError):
    """The training script failed, hung, or committed nothing that can be used."""


class Unreachable(CatchmentError):
    """A server does not answer, or not in time."""


class RateLimited(Unreachable):
    """A registry was asked too often, and still says so after as many tries as were due.

    Attributes:
        retry_after_s: how long it wants to be left alone, where it says so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message if retry_after_s is None else f"{message}; try again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class StepTimedOut(Unreachable):
    """A step of a run took longer than it may: most likely storage or database hang without an error.

    Attributes:
        step: what it was doing.
        allowed_s: seconds that it had.
    """

    def __init__(self, step: str, allowed_s: float) -> None:
        super().__init__(
            f"step '{step}' was not done after {allowed_s:g} s; "
            "does the storage hang? CATCHMENT_STEP_TIMEOUT_S gives it longer"
        )
        self.step = step
        self.allowed_s = allowed_s


class PodLost(Unreachable):
    """The cluster took a pod away before it was done: it was evicted, or somebody deleted it."""


class ServingError(CatchmentError):
    """A model server cannot answer."""


class ModelUnusable(ServingError):
    """The server's model cannot be loaded, or fails its smoke inference."""


class NotServing(ServingError):
    """The server loads its model still, or is stopping."""


class Overloaded(ServingError):
    """As many requests wait as may.

    Attributes:
        retry_after_s: seconds after which to try again.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlinePassed(ServingError):
    """The inference did not end in time."""


class InferenceFailed(ServingError):
    """The model failed on these inputs."""


class RolloutFailed(ServingError):
    """A new version of a serving may not take over, or cannot run; what was before stays.

    Attributes:
        facts: what was seen, a JSON value.
    """

    def __init__(self, message: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = facts or {}


class SetupError(CatchmentError):
    """The system cannot start as it is configured; the message says what to change."""


class ClusterRefused(SetupError):
    """A Kubernetes cluster does not let Catchment do what it was configured to do.

    Attributes:
        verb: get, list, watch, create, patch or delete.
        kind: the objects, `jobs.batch`.
    """

    def __init__(self, verb: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.verb = verb
        self.kind = kind


class PodFailed(CatchmentError):
    """A pod of a Kubernetes cluster did not do its work, and trying again would not help.

    Attributes:
        kind: of the problem: image, unschedulable, out of memory, exit ...
        code: exit code of the container, 0 where none ended.
    """

    def __init__(self, kind: str, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code


class SdkError(CatchmentError):
    """A training script used the SDK wrongly, or outside of a task."""
