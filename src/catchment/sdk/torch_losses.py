"""FedDC's loss for PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from catchment.errors import SdkError
from catchment.models.reading import TensorFile
from catchment.sdk.client_state import DRIFT, states
from catchment.sdk.pytorch import unwrapped
from catchment.sdk.session import LossTerms, Session
from catchment.sdk.torch_optimizers import like
from catchment.wire.task import WEIGHTS


def feddc(session: Session, model: Any, origin: Any, terms: LossTerms) -> FedDCLoss:
    """The loss, with w^t, h_k, c and c_k of the session's task."""
    if session.algorithm != "feddc":
        raise SdkError("FedDC's loss needs a job whose strategy is FedDC")
    pulls = []
    with (
        TensorFile.open(session.folder / WEIGHTS, copy_on_write=True) as weights,
        states(session.folder) as found,
    ):
        shared = frozenset(session.parts(weights.signature).shared)
        for parameter in unwrapped(model).parameters():
            names = session.names_of(parameter)
            if not parameter.requires_grad or not names or names[0] not in shared:
                continue
            info = weights.signature[names[0]]
            centre = weights.values(names[0]) - found.own.values(DRIFT + names[0], info)
            shift = found.control_shift(names[0], info)
            pulls.append(
                Pull(parameter, like(centre, parameter), None if shift is None else like(shift, parameter))
            )
    return FedDCLoss(torch.nn.CrossEntropyLoss() if origin is None else origin, pulls, terms)


class Pull:
    """alpha/2 * |w - centre|^2 + <w, shift> of one parameter."""

    def __init__(self, parameter: torch.Tensor, centre: torch.Tensor, shift: torch.Tensor | None) -> None:
        self._parameter, self._centre, self._shift = parameter, centre, shift

    def term(self, alpha: float) -> torch.Tensor:
        """The term, with the parameter's present value."""
        parameter = self._parameter
        if self._centre.device != parameter.device:
            self._centre = self._centre.to(parameter.device)
            self._shift = None if self._shift is None else self._shift.to(parameter.device)
        term = (parameter - self._centre).square().sum() * (alpha / 2)
        return term if self._shift is None else term + (parameter * self._shift).sum()


class FedDCLoss(torch.nn.Module):  # type: ignore[misc]  # mypy does not read torch
    """`f(...) + alpha/2 * |w - (w^t - h_k)|^2 + <w, c - c_k>` (Gao et al. 2022), for one client and round.

    Call it like the loss f beneath; its parameters are the model's live ones.
    """

    def __init__(self, origin: Any, pulls: list[Pull], terms: LossTerms) -> None:
        super().__init__()
        self._origin = origin
        self._pulls = pulls
        self._terms = terms

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The whole loss.

        Raises:
            SdkError: f gives more than one number.
        """
        loss: torch.Tensor = self._origin(*args, **kwargs)
        if loss.numel() != 1:
            raise SdkError("the loss beneath FedDC's must be one number: give it a reduction")
        if torch.is_grad_enabled():
            self._terms.calls += 1
        for pull in self._pulls:
            term = pull.term(self._terms.alpha)
            loss = loss + term.to(loss.device)
        return loss
