"""Rows that reach the splits of a tree and pass on one side of them or the other, by little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
"""[n, features]; NaN where any value does."""

_NEAREST, _FARTHEST = -3.0, -0.3
"""Rows lie 10^-3 to half of the way from a split to the next one."""


@dataclass(frozen=True)
class Tree:
    """The nodes of one tree, the root first; rows with feature <= threshold go left.

    Attributes:
        splits: numbers of the nodes that are no leaves.
        feature, threshold, left, right: by number of the node.
    """

    splits: NDArray[Any]
    feature: NDArray[Any]
    threshold: NDArray[Any]
    left: NDArray[Any]
    right: NDArray[Any]

    @classmethod
    def of(cls, model: Any) -> Tree | None:
        """The tree of a decision tree or of histogram gradient boosting; None: it is neither."""
        if hasattr(model, "tree_"):
            nodes = model.tree_
            splits = np.flatnonzero(nodes.children_left != nodes.children_right)
            return cls(splits, nodes.feature, nodes.threshold, nodes.children_left, nodes.children_right)
        if hasattr(model, "nodes"):
            nodes = model.nodes
            splits = np.flatnonzero((nodes["is_leaf"] == 0) & np.isfinite(nodes["num_threshold"]))
            return cls(splits, nodes["feature_idx"], nodes["num_threshold"], nodes["left"], nodes["right"])
        return None

    def rows(self, features: int, count: int, generator: np.random.Generator) -> Rows:
        """As many rows, each beside another split as long as there are some; none without a split."""
        if not len(self.splits):
            return np.empty((0, features))
        parents = np.full(len(self.feature), -1)
        for children in (self.left, self.right):
            parents[children[self.splits]] = self.splits
        gaps = self._gaps(features)
        order = generator.permutation(self.splits)
        return np.stack(
            [self._row(int(order[at % len(order)]), parents, gaps, generator) for at in range(count)]
        )

    def _row(
        self, split: int, parents: NDArray[Any], gaps: NDArray[Any], generator: np.random.Generator
    ) -> NDArray[np.float64]:
        low, high = np.full(len(gaps), -np.inf), np.full(len(gaps), np.inf)
        at = split
        while (parent := parents[at]) >= 0:
            self._narrow(low, high, parent, goes_left=at == self.left[parent])
            at = parent
        goes_left = bool(generator.random() < 0.5)
        self._narrow(low, high, split, goes_left=goes_left)
        bounded = np.isfinite(low) | np.isfinite(high)
        low = np.where(np.isfinite(low), low, high - gaps)
        high = np.where(np.isfinite(high), high, low + gaps)
        share = generator.uniform(0.05, 0.95, len(gaps))
        near = 10 ** generator.uniform(_NEAREST, _FARTHEST)
        share[self.feature[split]] = 1 - near if goes_left else near
        low, high = (np.where(bounded, each, np.nan) for each in (low, high))
        return np.asarray(low + share * (high - low))

    def _narrow(self, low: NDArray[Any], high: NDArray[Any], node: int, *, goes_left: bool) -> None:
        feature, threshold = self.feature[node], self.threshold[node]
        if goes_left:
            high[feature] = min(high[feature], threshold)
        else:
            low[feature] = max(low[feature], threshold)

    def _gaps(self, features: int) -> NDArray[np.float64]:
        """How far thresholds of each feature are apart in the mean, for rows outside of all of them."""
        gaps = np.ones(features)
        for feature in np.unique(self.feature[self.splits]):
            own = np.unique(self.threshold[self.splits][self.feature[self.splits] == feature])
            gaps[feature] = np.ptp(own) / (len(own) - 1) if len(own) > 1 else 0.1 * abs(own[0]) or 1.0
        return gaps
