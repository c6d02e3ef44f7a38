"""The formats that a model can have: which files each needs, and which one some files are.

The rules are the original's (`*.onnx` at the top of `model/` for ONNX, and so on) and hold for names as they
are spelled. The formats after "Others" are Catchment's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from catchment.errors import FormatMismatch

_SHOWN = 12


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: as configs spell it.
        framework: that it belongs to; empty where none is said.
        needs: groups of patterns; of each group one must fit a file. A pattern without a slash is for the top
            of `model/`.
        alone: whether nothing else may lie there.
        extractable: whether tensors and layers can be read out of it.
        converts_to: formats that it can be converted to.
        also: patterns that do for the first group where the format is named; by themselves they say little.
        original: whether the original client knows it.
        inferred: whether files that fit are taken for it when nobody names a format.
    """

    name: str
    framework: str
    needs: tuple[tuple[str, ...], ...]
    alone: bool = False
    extractable: bool = False
    converts_to: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    original: bool = True
    inferred: bool = True

    def missing(self, names: Iterable[str]) -> list[tuple[str, ...]]:
        """The groups of patterns that none of the names below `model/` fits."""
        names = list(names)
        return [group for group in self.needs if not any(_fits(name, group) for name in names)]

    def named(self) -> Format:
        """The format as it is when somebody has named it: `also` counts too."""
        first, *others = self.needs or ((),)
        return replace(self, needs=((*first, *self.also), *others)) if self.also else self


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("SavedModel", "TensorFlow", (("saved_model.pb",),), extractable=True, converts_to=("ONNX",)),
        Format("ONNX", "ONNX", (("*.onnx",),), extractable=True, converts_to=("ONNX",)),
        Format("H5", "Keras", (("*.h5",),), extractable=True, converts_to=("SavedModel", "ONNX")),
        Format("PMML", "PMML", (("*.pmml",),), alone=True, extractable=True),
        Format(
            "CaffeModel",
            "Caffe",
            (("*.caffemodel",), ("*.prototxt",)),
            extractable=True,
            converts_to=("NetDef", "ONNX"),
        ),
        Format(
            "NetDef",
            "Caffe2",
            (("init_net.pb",), ("predict_net.pb",)),
            extractable=True,
            converts_to=("ONNX",),
        ),
        Format(
            "MXNetParams",
            "MXNet",
            (("*symbol.json",), ("*.params",)),
            extractable=True,
            converts_to=("ONNX",),
        ),
        Format("TorchScript", "PyTorch", (("*.pt",),), extractable=True, converts_to=("ONNX",)),
        Format("GraphDef", "TensorFlow", (("*.graphdef",),), extractable=True, converts_to=("ONNX",)),
        Format("TensorRT", "TensorRT", (("*.plan", "*.engine"),), extractable=True),
        Format("SKLearn", "", (("*.joblib", "*.skops"),), extractable=True, converts_to=("ONNX",)),
        Format(
            "XGBoost",
            "",
            (("*.xgboost", "*.ubj"),),
            extractable=True,
            converts_to=("ONNX",),
            also=("*.json", "*.bst"),
        ),
        Format("MLflow", "", (("MLmodel",),), extractable=True),
        Format("Pickle", "", (("*.pickle",),)),
        Format("Others", "", (), inferred=False),
        Format("MLlib", "", (("metadata/part-*",),), original=False),
        Format("Safetensors", "", (("*.safetensors",),), extractable=True, original=False),
        Format(
            "Keras",
            "Keras",
            (("*.keras",),),
            extractable=True,
            converts_to=("SavedModel", "ONNX"),
            original=False,
        ),
        Format(
            "StateDict",
            "PyTorch",
            (("*.pth",),),
            extractable=True,
            converts_to=("Safetensors",),
            also=("*.pt",),
            original=False,
        ),
        Format(
            "ExportedProgram",
            "PyTorch",
            (("*.pt2",),),
            extractable=True,
            converts_to=("ONNX",),
            original=False,
        ),
        # Every text file would do, so that it must be named.
        Format(
            "LightGBM",
            "LightGBM",
            (("*.txt", "*.lgb"),),
            extractable=True,
            converts_to=("ONNX",),
            original=False,
            inferred=False,
        ),
    )
}
_SPELLINGS = {name.lower(): each for name, each in FORMATS.items()}
# These hold files of other formats beside their own.
_WRAPPERS = ("MLflow", "SavedModel")


def named(format_name: str) -> Format:
    """The format of this name, however its letters are cased.

    Raises:
        FormatMismatch: there is none.
    """
    found = _SPELLINGS.get(format_name.strip().lower())
    if found is None:
        raise FormatMismatch(f"the format {format_name[:60]!a} is not known; known are {', '.join(FORMATS)}")
    return found


def check(format_name: str, names: Iterable[str]) -> Format:
    """Whether the files are what the format asks for.

    Args:
        format_name: as a person wrote it.
        names: of all files, relative to `model/`.

    Returns:
        The format.

    Raises:
        FormatMismatch: it is not known, or files are missing or too many; the message says which and what is
            there.
    """
    wanted, names = named(format_name).named(), list(names)
    there = _top(names)
    if missing := wanted.missing(names):
        raise FormatMismatch(
            f"{_a(wanted.name)} model needs {' and '.join(' or '.join(group) for group in missing)} "
            f"{'in' if any('/' in each for group in missing for each in group) else 'at the top of'} model/; "
            f"there {_are(there)}"
        )
    if wanted.alone and len(there) != 1:
        only = " or ".join(wanted.needs[0])
        raise FormatMismatch(
            f"{_a(wanted.name)} model is a single file {only} in model/; there {_are(there)}"
        )
    return FORMATS[wanted.name]


def infer(names: Iterable[str]) -> Format:
    """The format that the files are; Others when they are none.

    Raises:
        FormatMismatch: they could be several.
    """
    names = list(names)
    fitting = [each for each in FORMATS.values() if each.inferred and not each.missing(names)]
    fitting = [each for each in fitting if not each.alone or len(_top(names)) == 1]
    for wrapper in _WRAPPERS:
        if FORMATS[wrapper] in fitting:
            return FORMATS[wrapper]
    if len(fitting) > 1:
        raise FormatMismatch(
            f"the files could be {' or '.join(each.name for each in fitting)}; say which by naming a format"
        )
    return fitting[0] if fitting else FORMATS["Others"]


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.count("/") == each.count("/") and fnmatchcase(name, each) for each in patterns)


def _top(names: list[str]) -> list[str]:
    """Files and folders (with a slash) at the top."""
    return sorted({first + slash for first, slash, _ in (name.partition("/") for name in names)})


def _are(there: list[str]) -> str:
    if not there:
        return "is nothing"
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    return f"{'is' if len(there) == 1 else 'are'} {', '.join(there[:_SHOWN])}{more}"


def _a(name: str) -> str:
    # By sound: an ONNX, an H5, an MLflow, an SKLearn, an XGBoost model.
    return f"{'an' if name[0] in 'AEIOH' or name[:2] in ('ML', 'MX', 'SK', 'XG') else 'a'} {name}"
