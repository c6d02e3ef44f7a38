"""What this machine offers: frameworks, processors, memory, GPUs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from catchment.wire.messages import Runtime, SiteResources

_MODULES: dict[Runtime, str] = {"pytorch": "torch", "keras": "keras"}


def installed_runtimes() -> tuple[Runtime, ...]:
    """The runtimes whose framework can be imported; none is imported to find out."""
    return tuple(runtime for runtime, module in _MODULES.items() if importlib.util.find_spec(module))


def detected_resources() -> SiteResources:
    """Processors, memory and GPUs that this process may use."""
    return SiteResources(
        cpu=float(len(os.sched_getaffinity(0))), memory_mb=_memory_mb(), gpu=len(visible_gpus())
    )


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs as CUDA_VISIBLE_DEVICES would list them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1"))
    folder = Path("/proc/driver/nvidia/gpus")
    return tuple(str(number) for number in range(len(list(folder.iterdir())))) if folder.is_dir() else ()


def _memory_mb() -> int:
    """Memory of the machine, or of the control group that limits us, in MB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        total = min(total, int(text))
    return max(1, total // 1_000_000)
