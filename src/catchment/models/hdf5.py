"""Reading HDF5 files of strangers: plain groups and plain dense datasets, nothing that points elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from catchment.errors import BadTensors
from catchment.models.signature import Array, Signature, TensorInfo, info_of
from catchment.models.writing import TensorWriter

MAX_EXPANSION = 100
"""Compressed and unwritten datasets are larger than their file; this often at most, plus a floor."""
EXPANSION_FLOOR_BYTES = 16 * 2**20

Group = Any
Dataset = Any


@contextmanager
def reading() -> Iterator[None]:
    """Turn what h5py raises on a damaged file into BadTensors."""
    try:
        yield
    except (OSError, LookupError, RuntimeError, ValueError, TypeError) as error:
        raise BadTensors(f"the HDF5 file is damaged ({error})") from None


@contextmanager
def open_hdf5(path: Path | BinaryIO) -> Iterator[Group]:
    """The root group of the HDF5 file at `path`, or of the open one.

    Raises:
        BadTensors: the file is none, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise BadTensors("files of Keras are read with h5py, which is not installed") from None
    with reading():
        file = h5py.File(path, "r")
    try:
        yield file
    finally:
        file.close()


def child(group: Group, name: str) -> Any:
    """The group or dataset `name`, a single path component, of `group`; None where there is none.

    Raises:
        BadTensors: it is a soft or external link.
    """
    import h5py

    with reading():
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise BadTensors(f"'{group.name}/{name}' is a link to elsewhere, which is not followed")
        return group.get(name)


def descendant(group: Group, path: str) -> Any:
    """The group or dataset at `path` below `group`, every step of it checked; None where there is none."""
    found = group
    for part in path.split("/"):
        found = child(found, part) if is_group(found) else None
    return found


def is_group(item: Any) -> bool:
    """Whether `item` is an HDF5 group."""
    import h5py

    return isinstance(item, h5py.Group)


def is_dataset(item: Any) -> bool:
    """Whether `item` is an HDF5 dataset."""
    import h5py

    return isinstance(item, h5py.Dataset)


def address(group: Group) -> int:
    """Where the group lies in its file: the same for all hard links to it."""
    import h5py

    with reading():
        return int(h5py.h5o.get_info(group.id).addr)


def text_attribute(item: Any, name: str) -> str | None:
    """The text attribute `name` of a group or dataset; None where there is none of that type."""
    with reading():
        value = item.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def write_datasets(datasets: Mapping[str, Dataset], size_bytes: int, destination: Path) -> Signature:
    """Write datasets, named as tensors, to the tensor file `destination`; one at a time in memory.

    Args:
        datasets: tensor name -> dataset.
        size_bytes: of the file that holds them, to bound what it may expand to.
        destination: the tensor file.

    Raises:
        BadTensors: a dataset that is not dense and numeric, or too large for its file.
    """
    signature = {name: _info(name, dataset) for name, dataset in datasets.items()}
    total = sum(info.size_bytes for info in signature.values())
    if total > MAX_EXPANSION * size_bytes + EXPANSION_FLOOR_BYTES:
        raise BadTensors(f"{total} bytes of tensors in a file of {size_bytes}")
    with TensorWriter.create(destination, signature) as writer:
        for name, dataset in datasets.items():
            writer.write(name, _values(dataset))
    return signature


def _info(name: str, dataset: Dataset) -> TensorInfo:
    if not is_dataset(dataset):
        raise BadTensors(f"'{name}' is no dataset in the file")
    with reading():
        if dataset.external or dataset.is_virtual:
            raise BadTensors(f"the values of '{name}' lie in another file, which is not read")
        if dataset.shape is None:
            raise BadTensors(f"'{name}' has no values")
        if _is_bfloat16(dataset):
            return TensorInfo("BF16", tuple(dataset.shape))
        return TensorInfo(info_of(name, np.empty(0, dataset.dtype)).dtype, tuple(dataset.shape))


def _is_bfloat16(dataset: Dataset) -> bool:
    # Keras stores bfloat16 as two opaque bytes, and says so in an attribute.
    return bool(dataset.dtype.itemsize == 2) and text_attribute(dataset, "dtype") == "bfloat16"


def _values(dataset: Dataset) -> Array:
    with reading():
        values = np.asarray(dataset[()])
        return values.view("<u2") if _is_bfloat16(dataset) else values
