"""Which image a step's pod has: one for reading models, one for each backend of conversion."""

from __future__ import annotations

from collections.abc import Mapping

from catchment.errors import ConversionFailed
from catchment.formats.convert import routes
from catchment.formats.convert.backend import BASE
from catchment.formats.convert.routes import Route
from catchment.model_jobs.working import Task

EXTRACTION = "extraction"
"""Catchment without any framework; it also brings files into pods and results out of them."""

HELD: Mapping[str, tuple[str, ...]] = {
    BASE: (BASE,),
    "torch": (BASE, "torch"),
    "tensorflow": (BASE, "tensorflow"),
    "sklearn": (BASE, "sklearn"),
    "mxnet": (BASE, "mxnet"),
    "mmdnn": (BASE, "mmdnn", "opencv"),
    "opencv": (BASE, "opencv"),
}
"""The backends whose environments an image holds: whatever the routes need that it is chosen for. The base is
in all of them, since it runs the ONNX files that come out."""


def image_of(task: Task) -> str:
    """What `{backend}` stands for in the setting. Raises ConversionFailed where there is no such route."""
    if task.kind == "extract":
        return EXTRACTION
    return _image(routes.find_route(task.format, task.target))


def _image(route: Route) -> str:
    """The smallest image with all that the route may use; without one, that of its first framework."""
    wanted = {*route.backends, *route.references, route.runtime}
    whole = [name for name, held in HELD.items() if wanted <= set(held)]
    if whole:
        return min(whole, key=lambda name: len(HELD[name]))
    raise ConversionFailed(f"no image holds {', '.join(sorted(wanted))}")
