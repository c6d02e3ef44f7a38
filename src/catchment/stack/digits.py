"""The data set `digits` of the local sites: scikit-learn's handwritten digits, dealt out unevenly."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATASET = "digits"
SEED = 20_240
TEST_SHARE = 0.2
ALPHA = 0.5
"""Concentration of the Dirichlet distribution: small means that a site sees few of the ten digits often."""
Indices = NDArray[np.int64]


def digits_available() -> bool:
    """Whether scikit-learn is installed, which carries the data."""
    return importlib.util.find_spec("sklearn") is not None


def ensure_digits(folders: Sequence[Path]) -> None:
    """Write `train.npz` and `test.npz` into each site's folder, unless this very split is there.

    Arrays: `x` float32 [n, 64] in 0..1, `y` int64 [n]. The 20 % held out for testing (stratified) are
    dealt out evenly, so that the sites' test parts are disjoint; the rest is split by a Dirichlet
    distribution over the labels.
    """
    split = {"sites": len(folders), "seed": SEED, "alpha": ALPHA, "test_share": TEST_SHARE}
    missing = [folder for folder in folders if _read_mark(folder) != split]
    if not missing:
        return
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16.0).astype(np.float32), y.astype(np.int64)
    generator = np.random.default_rng(SEED)
    train, test = hold_out(y, TEST_SHARE, generator)
    train_parts = split_by_dirichlet(y[train], len(folders), ALPHA, generator)
    test_parts = deal(y[test], len(folders))
    for folder, own_train, own_test in zip(folders, train_parts, test_parts, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        _save(folder / "train.npz", x[train[own_train]], y[train[own_train]])
        _save(folder / "test.npz", x[test[own_test]], y[test[own_test]])
        (folder / "split.json").write_text(json.dumps(split))


def hold_out(y: Indices, share: float, generator: np.random.Generator) -> tuple[Indices, Indices]:
    """Indices of the training part and of the test part, each label split by the same share."""
    train, test = [], []
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        held_out = max(1, round(len(members) * share))
        test.append(members[:held_out])
        train.append(members[held_out:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def split_by_dirichlet(y: Indices, parts: int, alpha: float, generator: np.random.Generator) -> list[Indices]:
    """Indices of each part; every index in exactly one part, no part empty.

    Raises:
        ValueError: there are more parts than samples.
    """
    if parts > len(y):
        raise ValueError(f"{len(y)} samples cannot be split into {parts} parts")
    chosen: list[list[int]] = [[] for _ in range(parts)]
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        shares = generator.dirichlet(np.full(parts, alpha))
        borders = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for part, piece in zip(chosen, np.split(members, borders), strict=True):
            part.extend(piece.tolist())
    while any(not part for part in chosen):
        giver = max(chosen, key=len)
        next(part for part in chosen if not part).append(giver.pop())
    return [np.sort(np.array(part, dtype=np.int64)) for part in chosen]


def deal(y: Indices, parts: int) -> list[Indices]:
    """Indices of each part, dealt out label by label like cards."""
    order = np.argsort(y, kind="stable")
    return [np.sort(order[part::parts]) for part in range(parts)]


def _read_mark(folder: Path) -> Any:
    try:
        return json.loads((folder / "split.json").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _save(path: Path, x: NDArray[np.float32], y: Indices) -> None:
    """Write beside and rename, so that a script never reads half a file."""
    unfinished = path.with_suffix(".unfinished.npz")
    np.savez(unfinished, x=x, y=y)
    unfinished.replace(path)
