"""joblib files: a pickle with the values of arrays in between, taken apart for the names of its classes."""

from __future__ import annotations

import io
import re
import sys
import zlib
from collections import Counter
from typing import Any, BinaryIO

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.pickles import Call, Global, Machine, refusal
from catchment.formats.extract.result import Extracted, count, shown, sizes

_ARRAY = Global("joblib.numpy_pickle", "NumpyArrayWrapper")
_PLAIN_LIBRARY = {
    "builtins": (
        "bytes",
        "set",
        "frozenset",
        "slice",
        "range",
        "complex",
        "bytearray",
        "object",
        "int",
        "float",
        "str",
    ),
    "collections": ("OrderedDict", "defaultdict", "deque", "Counter"),
    "copyreg": ("_reconstructor",),
    "copy_reg": ("_reconstructor",),
    "_codecs": ("encode",),
    "datetime": ("date", "datetime", "timedelta"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "functools": ("partial",),
    "__builtin__": ("bytes", "set", "frozenset", "object"),
}
"""What models hold of Python's own library; everything else of it does something."""
_UNIT = {"U": 4}


def read(folder: ModelFolder, name: str) -> Extracted:
    """The classes that loading the file would make."""
    names: Counter[str] = Counter()
    version = [""]

    def check(found: Global) -> None:
        _refuse_actions(found)
        names[str(found)] += 0

    with folder.opened(name) as raw:
        file = _unpacked(raw)

        def built(thing: Call) -> None:
            if isinstance(thing.state, dict) and isinstance(thing.state.get("_sklearn_version"), str):
                version[0] = thing.state["_sklearn_version"]
                names[str(thing.function)] += 1
            elif thing.function == _ARRAY:
                _skip_values(file, thing.state, check, built)

        Machine(file, check, built).run()
    layers = {kind.rpartition(".")[2]: number for kind, number in names.items() if number}
    return Extracted(
        "SKLearn",
        "scikit-learn",
        version[0],
        layers=layers,
        extras={"classes": sorted(names), "serialization": "joblib"},
        absent=(
            "inputs, outputs and parameters: a .joblib file is a pickle, which is never loaded here; "
            "save the model with skops to have them read",
        ),
    )


def _refuse_actions(found: Global) -> None:
    root = found.module.partition(".")[0]
    allowed = _PLAIN_LIBRARY.get(found.module, ())
    if root in (*sys.stdlib_module_names, "__builtin__", "copy_reg") and found.name not in allowed:
        raise refusal(found, "no model needs it")


def _skip_values(file: BinaryIO, state: Any, check: Any, built: Any) -> None:
    """Move the file over an array's values, which stand right behind the array's description."""
    if not isinstance(state, dict):
        raise ExtractionFailed("the pickle inside describes an array wrongly")
    item = _item_bytes(state.get("dtype"))
    if item is None:  # objects, in a pickle of their own
        Machine(file, check, built).run()
        return
    total = count([sizes(state.get("shape"), "an array")]) * item
    if state.get("numpy_array_alignment_bytes") is not None:
        total += (file.read(1) or b"\0")[0]
    while total:
        piece = len(file.read(min(total, 2**20)))
        if not piece:
            raise ExtractionFailed("the file is cut off: an array has fewer values than its shape says")
        total -= piece


def _item_bytes(dtype: Any) -> int | None:
    """Size of one element of a pickled numpy.dtype; None for objects."""
    arguments = dtype.arguments if isinstance(dtype, Call) and str(dtype.function) == "numpy.dtype" else ()
    code = arguments[0] if isinstance(arguments, tuple) and arguments else ""
    found = re.fullmatch(r"[<>|=]?([A-Za-z])(\d{1,9})", code) if isinstance(code, str) else None
    if found is None:
        raise ExtractionFailed(f"the pickle inside holds an array of an unknown type {shown(code)}")
    return None if found[1] == "O" else int(found[2]) * _UNIT.get(found[1], 1)


def _unpacked(file: BinaryIO) -> BinaryIO:
    """The file, unpacked while it is read when it is compressed."""
    start = file.read(6)
    file.seek(0)
    if start[:1] == b"\x80":
        return file
    if start[:1] == b"\x78":
        return _WithoutPosition(io.BufferedReader(_Zlib(file)))  # type: ignore[return-value]
    if start[:2] == b"\x1f\x8b":
        import gzip

        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if start[:3] == b"BZh":
        import bz2

        return bz2.BZ2File(file)  # type: ignore[return-value]
    if start[:6] == b"\xfd7zXZ\0" or start[:2] == b"]\0":
        import lzma

        return lzma.LZMAFile(file)  # type: ignore[return-value]
    raise ExtractionFailed("the file is no pickle, nor one that is packed with zlib, gzip, bz2, lzma or xz")


class _WithoutPosition:
    """A stream that cannot tell its position, and does not have the method."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.read = stream.read
        self.readline = stream.readline


class _Zlib(io.RawIOBase):
    """A zlib stream, unpacked piece by piece so that it can be as large as it likes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._file.read(2**16)
            try:
                piece = self._stream.decompress(packed, len(target))
            except zlib.error as error:
                raise ExtractionFailed(f"the file is damaged ({error})") from None
            if piece or not packed:
                target[: len(piece)] = piece
                return len(piece)
        return 0
