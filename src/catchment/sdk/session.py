"""What this process has done for its task: which models it loaded, and which steps their optimizers made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catchment.errors import SdkError
from catchment.models.reading import TensorFile
from catchment.models.signature import Array, Signature
from catchment.sdk.folder import task, task_folder
from catchment.sdk.frameworks import LiveModel, live_model
from catchment.sdk.matching import aligned
from catchment.strategies.vectors import algorithm_of, partition, sent_signature
from catchment.wire.messages import Algorithm
from catchment.wire.task import WEIGHTS, TaskFile


@dataclass
class Steps:
    """Steps of one optimizer's group of tensors.

    Attributes:
        names: of the tensors, in the round's weights.
        count: how many steps were made.
        rates: the sum of their learning rates.
    """

    names: tuple[str, ...]
    count: int = 0
    rates: float = 0.0

    def made(self, learning_rate: float) -> None:
        """Count a step."""
        self.count += 1
        self.rates += learning_rate


@dataclass
class LossTerms:
    """What a FedDC loss was made with; None for what nobody said.

    Attributes:
        alpha: weight of the penalty.
        num_steps: as sample_num, batch_size and epoch give it.
        learning_rate: of the script's optimizer.
        calls: how often the loss was computed for training.
    """

    alpha: float
    num_steps: int | None
    learning_rate: float | None
    calls: int = 0


@dataclass
class Session:
    """One task in this process.

    Attributes:
        folder: the task's.
        task: its file.
        steps: of all optimizers that were created for it.
        expected_steps: as sample_num and batch_size give it, where both were given.
        gradients: SCAFFOLD option I: gradients at the round's weights, by tensor.
        wants_gradients: whether option I was asked for.
        loss: the FedDC loss, where one was created.
    """

    folder: Path
    task: TaskFile
    steps: list[Steps] = field(default_factory=list)
    expected_steps: int | None = None
    gradients: dict[str, Array] = field(default_factory=dict)
    wants_gradients: bool = False
    loss: LossTerms | None = None
    _models: list[Any] = field(default_factory=list)
    _parameters: dict[int, tuple[Any, tuple[str, ...]]] = field(default_factory=dict)

    def remember(self, model: Any, live: LiveModel, names: dict[str, str]) -> None:
        """Note which parameters of a model are which tensors; the model stays alive with the session."""
        files_of = {own: name for name, own in names.items()}
        for own, parameter in live.parameters():
            tied = self.names_of(parameter)
            if files_of[own] not in tied:
                self._parameters[id(parameter)] = parameter, (*tied, files_of[own])
        self._models.append(model)

    def know(self, model: Any) -> None:
        """Remember a model that was not loaded with `load_weights`, or not this object of it.

        Raises:
            SdkError: it differs from the round's weights.
        """
        live = live_model(model)
        with TensorFile.open(self.folder / WEIGHTS) as weights:
            self.remember(model, live, aligned(live, weights.signature))

    @property
    def model(self) -> Any:
        """The model that was loaded last; None before."""
        return self._models[-1] if self._models else None

    def names_of(self, parameter: Any) -> tuple[str, ...]:
        """Names of a parameter in the round's weights: several where tensors are tied, none if unknown."""
        return self._parameters.get(id(parameter), (None, ()))[1]

    @property
    def trained(self) -> frozenset[str]:
        """Names of all tensors that are parameters which training changes."""
        trained = [names for parameter, names in self._parameters.values() if _is_trained(parameter)]
        return frozenset(name for names in trained for name in names)

    def group(self, parameters: Iterable[Any]) -> Steps:
        """A new counter of steps that an optimizer makes on these parameters."""
        steps = Steps(tuple(name for parameter in parameters for name in self.names_of(parameter)))
        self.steps.append(steps)
        return steps

    @property
    def num_steps(self) -> int:
        """Steps that the most trained tensor got; two optimizers may train parts of a model."""
        counts: dict[str, int] = {}
        for steps in self.steps:
            for name in steps.names:
                counts[name] = counts.get(name, 0) + steps.count
        return max(counts.values(), default=0)

    @property
    def algorithm(self) -> str | None:
        """The algorithm whose vectors this client sends besides its weights."""
        strategy, optimizer, loss = self.task.strategy, self.task.optimizer, self.task.loss
        return algorithm_of(*(_name(one) for one in (strategy, optimizer, loss)))

    def parts(self, weights: Signature) -> Parts:
        """Which tensors of the weights go where."""
        strategy = self.task.strategy.params if self.task.strategy else {}
        shared, local, _ = partition(strategy, weights)
        sent = sent_signature(weights, strategy=strategy, algorithm=self.algorithm)
        return Parts(tuple(shared), tuple(local), sent)


@dataclass(frozen=True)
class Parts:
    """Which tensors of the weights go where.

    Attributes:
        shared: names of those that the site sends.
        local: names of those that it keeps.
        sent: all that it sends, vectors of the algorithm included.
    """

    shared: tuple[str, ...]
    local: tuple[str, ...]
    sent: Signature


_current: list[Session] = []


def session() -> Session:
    """The session of this process's task; a new one when the task is another.

    Raises:
        SdkError: outside of a task.
    """
    folder, found = task_folder(), task()
    if not _current or (_current[0].folder, _current[0].task) != (folder, found):
        _current[:] = [Session(folder, found)]
    return _current[0]


def known_model(found: Session, model: Any) -> Any:
    """The model that an algorithm works on: `model`, or the one that was loaded last.

    Raises:
        SdkError: there is none, or it differs from the round's weights.
    """
    if model is not None:
        found.know(model)
        return model
    if found.model is None:
        raise SdkError("call fl.load_weights(model) first: the algorithm starts from the round's weights")
    return found.model


def _is_trained(parameter: Any) -> bool:
    """A torch parameter requires a gradient, a Keras variable is trainable."""
    return bool(getattr(parameter, "requires_grad", getattr(parameter, "trainable", False)))


def _name(algorithm: Algorithm | None) -> str | None:
    return algorithm.name.lower() if algorithm else None
