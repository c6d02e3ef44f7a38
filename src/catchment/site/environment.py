"""The environment of scripts and of the processes that start them."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

import catchment

_OURS = ("CATCHMENT_", "PREFECT_", "OTEL_")


def cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """A copy without our own variables, which may hold tokens and addresses that are no script's business."""
    return {name: value for name, value in environ.items() if not name.startswith(_OURS)}


_PUBLIC = (
    *("PATH", "LANG", "LANGUAGE", "LC_", "TZ", "LD_", "PYTHON", "MALLOC_", "GLIBC_", "TERM"),
    *("CUDA", "NVIDIA_", "NCCL_", "GLOO_", "HIP_", "HSA_", "ROCR_", "OMP_", "GOMP_", "KMP_", "MKL_"),
    *("OPENBLAS_", "NUMEXPR_", "BLIS_", "KERAS_", "TORCH", "PYTORCH_", "TF_", "JAX_", "XLA_"),
)


def public(environ: Mapping[str, str]) -> dict[str, str]:
    """Only what programs and frameworks are set up with: an agent's environment may hold credentials."""
    return {name: value for name, value in environ.items() if name.startswith(_PUBLIC)}


def isolated(environ: Mapping[str, str], home: str) -> dict[str, str]:
    """The environment of an isolated script, which has its temporary folder as home."""
    alone = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"}
    return {**public(environ), **alone, "HOME": home, "USER": "script", "LOGNAME": "script"}


def with_python_path(environ: Mapping[str, str], *folders: str) -> dict[str, str]:
    """A copy whose PYTHONPATH begins with the folders, and from which `catchment` can be imported."""
    root = str(Path(catchment.__file__).resolve().parent.parent)
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    entries = [*folders, *environ.get("PYTHONPATH", "").split(os.pathsep)]
    if root not in installed and root not in entries:
        entries.append(root)
    return {**environ, "PYTHONPATH": os.pathsep.join(entry for entry in entries if entry)}


def python_command(*arguments: str) -> list[str]:
    """Command line of this interpreter that never imports from the current folder."""
    return [sys.executable, "-P", *arguments]
