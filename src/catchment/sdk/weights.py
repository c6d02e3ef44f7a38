"""Loading the round's weights into a model, and handing over what training made of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catchment.errors import SdkError
from catchment.models.reading import TensorFile
from catchment.models.signature import Array
from catchment.models.updates import all_finite
from catchment.models.writing import TensorWriter
from catchment.sdk.client_state import states
from catchment.sdk.committing import Commit
from catchment.sdk.folder import is_writer, task, task_folder
from catchment.sdk.frameworks import live_model
from catchment.sdk.matching import aligned
from catchment.sdk.metrics import commit_metrics
from catchment.sdk.session import session
from catchment.wire.task import WEIGHTS


def load_weights(model: Any) -> None:
    """Load the round's global weights into `model`, in place.

    Tensors that the job keeps at the sites (`strategy.params.local`) get what this site made of them in its
    last round, and the global weights in its first.

    Args:
        model: torch module, also inside DataParallel or DistributedDataParallel, or built Keras 3 model.

    Raises:
        SdkError: outside of a task, or names or shapes differ; the message lists how.
    """
    folder = task_folder()
    live = live_model(model)
    here = session()
    with (
        TensorFile.open(folder / WEIGHTS, copy_on_write=True) as weights,
        states(folder) as found,
    ):
        names = aligned(live, weights.signature)
        kept = {name for name in here.parts(weights.signature).local if found.own.holds(name)}
        live.assign(
            {
                own: found.own.tensor(name, weights.signature[name])
                if name in kept
                else _values(weights, name)
                for name, own in names.items()
            }
        )
    here.remember(model, live, names)


def commit_weights(model: Any, optimizer: Any = None) -> None:
    """Hand over the trained weights, as differences to the round's; a second call replaces the first.

    Float tensors are handed over as differences, integers and booleans as values; with them goes what the
    job's algorithm needs of this site, and what the site keeps for its next round is kept. Only rank 0 of
    several workers writes. A task that evaluates takes no weights: a warning says so.

    Args:
        model: the trained model, as in `load_weights`.
        optimizer: what `create_optimizer` gave. It need not be given: its steps are known.

    Raises:
        SdkError: outside of a task, names or shapes differ, a tensor holds NaN or infinite values, or the
            script did not do what the job's algorithm needs.
    """
    _commit(model, {})


def _commit(model: Any, metrics: Mapping[str, Any]) -> None:
    folder = task_folder()
    if not is_writer():
        return
    if task().kind == "evaluate":
        warnings.warn("this task evaluates: the weights that were committed are not used", stacklevel=3)
        return
    live = live_model(model)
    with TensorFile.open(folder / WEIGHTS) as weights, states(folder) as found:
        names = aligned(live, weights.signature)
        Commit(session(), weights, live, names, found).write(folder, metrics)


def commit(metrics: Mapping[str, Any], trained_model: Any = None, optimizer: Any = None) -> None:
    """Hand over metrics and, where given, the trained model: `commit_weights` and `commit_metrics` in one.

    Raises:
        SdkError: as those two.
    """
    if trained_model is not None:
        _commit(trained_model, metrics)
    commit_metrics(metrics)


def save_weights(model: Any, path: str | Path) -> None:
    """Write the model's weights to a tensor file, such as a job's `model_path` names; needs no task.

    Raises:
        SdkError: the model cannot be federated, or a tensor holds NaN or infinite values.
    """
    live = live_model(model)
    with TensorWriter.create(Path(path), live.signature) as writer:
        for name, info in live.signature.items():
            values = live.read(name)
            if info.is_float and not all_finite(values):
                raise SdkError(f"tensor '{name}' holds NaN or infinite values")
            writer.write(name, values)


def _values(weights: TensorFile, name: str) -> Array:
    # numpy has no bfloat16; all others go to the framework as they are, without a copy.
    return weights.values(name) if weights.signature[name].dtype == "BF16" else weights.array(name)
