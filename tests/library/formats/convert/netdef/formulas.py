"""Caffe2 operators that its goldens leave out, of truth values and of indices, with their formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from catchment.formats.convert.netdef.writer import NetWriter


@dataclass(frozen=True)
class Formula:
    """A network around one operator, and what it computes from `data` and the indices `rows`."""

    kind: str
    build: Callable[[NetWriter], None]
    expected: Callable[[np.ndarray, np.ndarray], np.ndarray]
    inputs: tuple[str, ...] = ("data",)


def _not(net: NetWriter) -> None:
    net.add("GT", ["data", net.weight("zero", np.zeros(1, np.float32))], ["above"], broadcast=1)
    net.add("Not", ["above"], ["out"])


def _where(net: NetWriter) -> None:
    net.add("GT", ["data", net.weight("zero", np.zeros(1, np.float32))], ["above"], broadcast=1)
    net.add("Sqr", ["data"], ["squared"])
    net.add("Where", ["above", "data", "squared"], ["out"])


def _truth(net: NetWriter) -> None:
    net.add("GivenTensorBoolFill", [], ["out"], shape=[2], values=[1, 0])


FORMULAS = [
    Formula("Not", _not, lambda data, _: data <= 0),
    Formula("Where", _where, lambda data, _: np.where(data > 0, data, data**2)),
    Formula("GivenTensorBoolFill", _truth, lambda *_: np.array([True, False]), ()),
    Formula("Gather", lambda net: net.add("Gather", ["data", "rows"], ["out"]), lambda data, rows: data[rows],
            ("data", "rows")),
    Formula("Gather", lambda net: net.add("Gather", ["data", "rows"], ["out"], axis=1),
            lambda data, rows: data[:, rows], ("data", "rows")),
]  # fmt: skip
