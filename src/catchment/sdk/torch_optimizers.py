"""FedProx and SCAFFOLD for PyTorch: any optimizer of torch, with its gradients changed before each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch

from catchment.errors import SdkError
from catchment.models.reading import TensorFile
from catchment.sdk.algorithms import OptimizerWish
from catchment.sdk.client_state import states
from catchment.sdk.pytorch import unwrapped
from catchment.sdk.session import Session, Steps
from catchment.wire.task import WEIGHTS


def optimizer(session: Session, wish: OptimizerWish) -> torch.optim.Optimizer:
    """The optimizer of the wish.

    Raises:
        SdkError: its parameters are not those of the loaded model, or SCAFFOLD on another optimizer than SGD.
    """
    params = unwrapped(wish.model).parameters() if wish.params is None else wish.params
    if wish.name == "scaffold":
        return Scaffold(session, params, wish)
    base = wish.base or torch.optim.SGD
    made: torch.optim.Optimizer = base(params, lr=wish.learning_rate, **wish.further)
    is_prox = wish.name == "fedprox" and wish.mu > 0
    StepHooks(made, session, Proximal(session, made, wish) if is_prox else None)
    return made


class Correction(Protocol):
    """How gradients are changed before a step."""

    def __call__(self, parameter: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor | None:
        """The gradient to use in place of the given one; None for no change."""


class StepHooks:
    """Changes an optimizer's gradients for the length of each step, and counts the steps.

    The gradients are the user's again when the step is made: whoever looks at them, or makes a second step
    with them, finds what `backward` left.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, session: Session, correction: Correction | None
    ) -> None:
        self._session = session
        self._correction = correction
        self._steps: list[Steps] = []
        self._replaced: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)
        self._count(optimizer.param_groups)
        if not any(steps.names for steps in self._steps):
            raise SdkError(
                "no parameter of the optimizer is one of the model that fl.load_weights loaded; "
                "give model=..., or load that model first"
            )

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        correction = self._correction
        if correction is None:
            return None
        if getattr(optimizer, "grad_scale", None) is not None:
            raise SdkError("a fused optimizer under a GradScaler cannot be used here; give fused=False")
        closure: Callable[[], Any] | None = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._replace(optimizer.param_groups, correction)
            return None

        def corrected() -> Any:
            self._restore()
            loss = closure()
            self._replace(optimizer.param_groups, correction)
            return loss

        return (args[0], corrected), {}

    def _after(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._restore()
        self._count(optimizer.param_groups)
        for steps, group in zip(self._steps, optimizer.param_groups, strict=True):
            steps.made(float(group["lr"]))

    def _count(self, groups: list[dict[str, Any]]) -> None:
        self._steps += [self._session.group(group["params"]) for group in groups[len(self._steps) :]]

    def _replace(self, groups: Iterable[dict[str, Any]], correction: Correction) -> None:
        for group in groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    raise SdkError(
                        "sparse gradients cannot be used with FedProx or SCAFFOLD; give sparse=False"
                    )
                with torch.no_grad():
                    changed = correction(parameter, parameter.grad)
                if changed is not None:
                    self._replaced.append((parameter, parameter.grad))
                    parameter.grad = changed

    def _restore(self) -> None:
        for parameter, gradient in self._replaced:
            parameter.grad = gradient
        self._replaced.clear()


class Proximal:
    """FedProx: `g + mu * (w - w^t)`."""

    def __init__(self, session: Session, optimizer: torch.optim.Optimizer, wish: OptimizerWish) -> None:
        self._mu = wish.mu
        self._origin: dict[int, torch.Tensor] = {}
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        with TensorFile.open(session.folder / WEIGHTS, copy_on_write=True) as weights:
            shared = frozenset(session.parts(weights.signature).shared)
            for parameter in trained:
                names = session.names_of(parameter)
                if names and names[0] in shared:
                    self._origin[id(parameter)] = like(weights.values(names[0]), parameter)
        self._add_given(session, trained, wish.origin)

    def __call__(self, parameter: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor | None:
        """The gradient with the pull towards the round's weights."""
        origin = self._origin.get(id(parameter))
        if gradient is None or origin is None:
            return None
        if origin.device != parameter.device:
            origin = self._origin[id(parameter)] = origin.to(parameter.device)
        return torch.add(gradient, parameter - origin, alpha=self._mu)

    def _add_given(self, session: Session, trained: list[torch.Tensor], given: Any) -> None:
        """w^t of parameters that are not the loaded model's, in the order of all that are trained."""
        unknown = [parameter for parameter in trained if not session.names_of(parameter)]
        if given is None or not unknown:
            return
        origins = list(given)
        if len(origins) != len(trained):
            raise SdkError(
                f"origin_trainable_weights holds {len(origins)} tensors, the optimizer has {len(trained)}"
            )
        for parameter, origin in zip(trained, origins, strict=True):
            if not session.names_of(parameter):
                self._origin[id(parameter)] = origin.detach().clone().to(parameter)


class Scaffold(torch.optim.SGD):  # type: ignore[misc]  # mypy does not read torch
    """SCAFFOLD: SGD whose step is `w - lr * (g - c_k + c)`."""

    def __init__(self, session: Session, params: Any, wish: OptimizerWish) -> None:
        if wish.base not in (None, torch.optim.SGD):
            raise SdkError(f"SCAFFOLD works with plain SGD only, not with {wish.base.__name__}")
        super().__init__(params, lr=wish.learning_rate, **wish.further)
        self._session = session
        self._shifts: dict[int, torch.Tensor] = {}
        with TensorFile.open(session.folder / WEIGHTS) as weights, states(session.folder) as found:
            shared = frozenset(session.parts(weights.signature).shared)
            for parameter in self._parameters():
                names = session.names_of(parameter)
                if names and names[0] in shared:
                    shift = found.control_shift(names[0], weights.signature[names[0]])
                    if shift is not None:
                        self._shifts[id(parameter)] = like(shift, parameter)
        StepHooks(self, session, self._corrected)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; momentum is refused."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["momentum"] or group["maximize"]:
            raise SdkError("SCAFFOLD works with plain SGD only: no momentum, no maximize")

    def full_gradient(self, closure: Callable[[], Any]) -> None:
        """Option I: measure the gradient of the client's loss at the round's weights.

        Args:
            closure: computes the mean loss over all the site's data and calls `backward`, in as many parts
                as fit into memory. It is called once, before the first step; gradients are zeroed around it.

        Raises:
            SdkError: steps were made already.
        """
        if self._session.num_steps:
            raise SdkError(
                "full_gradient must be called before the first step: it belongs to the round's weights"
            )
        self.zero_grad(set_to_none=True)
        with torch.enable_grad():
            closure()
        for parameter in self._parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name in self._session.names_of(parameter):
                self._session.gradients[name] = gradient.detach().double().cpu().numpy()
        self.zero_grad(set_to_none=True)

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _corrected(self, parameter: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor | None:
        shift = self._shifts.get(id(parameter))
        if shift is None or not parameter.requires_grad:
            return None
        if shift.device != parameter.device:
            shift = self._shifts[id(parameter)] = shift.to(parameter.device)
        # A parameter that had no part in this batch still moves by its share of the correction.
        return shift.clone() if gradient is None else gradient + shift


def like(array: Any, parameter: torch.Tensor) -> torch.Tensor:
    """An array as a tensor of the parameter's dtype, on its device."""
    return torch.from_numpy(np.require(array, requirements=["ALIGNED", "WRITEABLE", "C"])).to(
        parameter.device, parameter.dtype, copy=True
    )
