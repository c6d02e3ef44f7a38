"""Writing a client's update, and what the client keeps for its next round."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catchment.errors import BadTensors, SdkError
from catchment.models.reading import TensorFile
from catchment.models.signature import Array, Signature, TensorInfo, update_signature
from catchment.models.updates import all_finite, blocks
from catchment.models.writing import TensorWriter
from catchment.sdk.client_state import DRIFT, States
from catchment.sdk.contribution import ControlRule, control_rule
from catchment.sdk.frameworks import LiveModel
from catchment.sdk.plain import plain
from catchment.sdk.session import Session
from catchment.strategies.vectors import CONTROL, NUM_STEPS
from catchment.wire.task import METRICS, NEXT_CLIENT_STATE, UPDATE


@dataclass(frozen=True)
class Commit:
    """A trained model on its way into files.

    Attributes:
        session: what was done in this process.
        weights: the round's.
        live: the trained model.
        names: name in the weights -> name in the model.
        states: what the round began with besides the weights.
    """

    session: Session
    weights: TensorFile
    live: LiveModel
    names: Mapping[str, str]
    states: States

    def write(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Write both files, the update last.

        Args:
            folder: of the task.
            metrics: those that are handed over together with the weights.

        Raises:
            SdkError: a tensor is not finite, or the script did not do what the algorithm needs.
        """
        parts = self.session.parts(self.weights.signature)
        rule = None
        num_steps = 0
        if self.session.algorithm in ("scaffold", "feddc"):
            rule = control_rule(self.session, self.states)
        elif self.session.algorithm == "fednova":
            num_steps = _num_steps(self.session, folder, metrics)
        trained = [name for name in self._floats(parts.shared) if rule and rule.trains(name)]
        try:
            self._write_kept(folder / NEXT_CLIENT_STATE, parts.local, trained, rule)
            with TensorWriter.create(folder / UPDATE, parts.sent) as writer:
                for name in parts.shared:
                    self._write_tensor(writer, name)
                for name in self._floats(parts.shared) if rule else ():
                    self._write_change(writer, name, rule if name in trained else None)
                if NUM_STEPS in parts.sent:
                    writer.write(NUM_STEPS, np.array([num_steps], np.float64))
        except BadTensors as error:
            raise SdkError(str(error)) from None

    def _floats(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if self.weights.signature[name].is_float]

    def _trained(self, name: str) -> Array:
        return self.live.read(self.names[name]).reshape(-1)

    def _moved(self, name: str) -> Iterator[tuple[int, int, Array]]:
        """Blocks of w_k - w^t, in at least float32."""
        info, trained = self.weights.signature[name], self._trained(name)
        for start, stop in blocks(info.num_elements):
            with np.errstate(over="ignore", invalid="ignore"):
                values = trained[start:stop].astype(info.compute_dtype, copy=False) - self.weights.block(
                    name, start, stop
                )
            if not all_finite(values):
                raise SdkError(
                    f"tensor '{name}' holds NaN or infinite values after training; nothing was committed. "
                    "A smaller learning rate or clipped gradients may help"
                )
            yield start, stop, values

    def _write_tensor(self, writer: TensorWriter, name: str) -> None:
        info = self.weights.signature[name]
        if info.is_float:
            for _, _, values in self._moved(name):
                writer.write_block(name, values)
            return
        trained = self._trained(name)
        for start, stop in blocks(info.num_elements):
            writer.write_block(name, trained[start:stop])

    def _changes(self, name: str, rule: ControlRule) -> Iterator[tuple[int, int, Array]]:
        """Blocks of the control variate's change, rounded as they are sent."""
        info = self.weights.signature[name]
        for start, stop, moved in self._moved(name):
            with np.errstate(over="ignore", invalid="ignore"):
                change = rule.change(name, info, start, stop, moved).astype(info.compute_dtype)
            if not all_finite(change):
                raise SdkError(f"the control variate of tensor '{name}' is not finite; nothing was committed")
            yield start, stop, change

    def _write_change(self, writer: TensorWriter, name: str, rule: ControlRule | None) -> None:
        info = self.weights.signature[name]
        if rule is None:
            writer.write(CONTROL + name, np.zeros(info.shape, info.compute_dtype))
            return
        for _, _, change in self._changes(name, rule):
            writer.write_block(CONTROL + name, change)

    def _write_kept(
        self, path: Path, local: tuple[str, ...], trained: list[str], rule: ControlRule | None
    ) -> None:
        """Local tensors, control variates and drifts; no file where there is nothing to keep."""
        signature: Signature = {name: self.weights.signature[name] for name in local}
        as_sent = update_signature(self.weights.signature)
        drifts = trained if self.session.algorithm == "feddc" else []
        signature |= {CONTROL + name: as_sent[name] for name in trained}
        signature |= {DRIFT + name: as_sent[name] for name in drifts}
        path.unlink(missing_ok=True)
        if not signature:
            return
        with TensorWriter.create(path, signature) as writer:
            for name in local:
                self._write_local(writer, name, self.weights.signature[name])
            if rule is not None:
                for name in trained:
                    self._add(writer, CONTROL + name, name, self._changes(name, rule))
            for name in drifts:
                self._add(writer, DRIFT + name, name, self._moved(name))

    def _write_local(self, writer: TensorWriter, name: str, info: TensorInfo) -> None:
        values = self._trained(name)
        if info.is_float and not all_finite(values):
            raise SdkError(
                f"tensor '{name}' holds NaN or infinite values after training; nothing was committed"
            )
        writer.write(name, values.reshape(info.shape))

    def _add(
        self, writer: TensorWriter, kept: str, name: str, changes: Iterator[tuple[int, int, Array]]
    ) -> None:
        """What was kept before, plus its change in this round."""
        info = self.weights.signature[name]
        for start, stop, change in changes:
            writer.write_block(kept, self.states.own.block(kept, info, start, stop) + change)


def _num_steps(session: Session, folder: Path, metrics: Mapping[str, Any]) -> int:
    """Steps that were made: counted by our optimizer, or as the script says.

    Raises:
        SdkError: neither, or what it says is no number of steps.
    """
    written = json.loads((folder / METRICS).read_bytes()) if (folder / METRICS).exists() else {}
    said = plain("num_steps", metrics.get("num_steps", written.get("num_steps")))
    if said is None:
        if session.num_steps:
            return session.num_steps
        raise SdkError(
            "FedNova needs the number of optimizer steps: train with optimizer = fl.create_optimizer(...), "
            "or commit the metric num_steps together with the weights (fl.commit) or before them"
        )
    if isinstance(said, bool) or not isinstance(said, int) or said < 1:
        raise SdkError(f"the metric num_steps must be an integer > 0, not {said!r}")
    return said
