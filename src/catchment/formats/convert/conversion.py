"""Converting one model: the route's backends in turn, then the gate, then the files at their place."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from catchment.errors import BackendUnavailable, ConversionFailed
from catchment.formats.convert import gate, routes
from catchment.formats.convert.backend import BACKENDS, Backend
from catchment.formats.convert.comparing import Tolerance
from catchment.formats.convert.contract import SAMPLES, TARGET, Job
from catchment.formats.convert.environments import Environment, Environments
from catchment.formats.convert.job_folder import job_folder
from catchment.formats.convert.outputs import take_over
from catchment.formats.convert.routes import Route
from catchment.formats.convert.running import Runner, Told, UnsupportedByBackend
from catchment.formats.convert.samples import Kind
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec


@dataclass(frozen=True)
class Request:
    """What is to be converted.

    Attributes:
        source: folder with the model's files; it is only read.
        source_format, target_format: as configs spell them; case does not matter.
        signature: stored with the model, from an extraction; None: there is none.
        inputs: that the user gave; used where there is no stored signature.
        options: `backend`, `operation`, `opset`, `signature`, `allow_pickle`; see docs/conversion.md.
        seed: of the samples that the gate compares with.
        tolerance: None: by dtype.
    """

    source: Path
    source_format: str
    target_format: str
    signature: ModelSignature | None = None
    inputs: tuple[TensorSpec, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    tolerance: float | None = None


@dataclass(frozen=True)
class Conversion:
    """What came out.

    Attributes:
        backend: that converted.
        report: of the gate, which passed.
        signature: of the result.
        passed_over: backends that were tried before and could not, with the reason.
        log: the end of what the converter printed.
        missing: parts of the sandbox that this host does not give, and why.
    """

    backend: str
    report: gate.EquivalenceReport
    signature: ModelSignature
    passed_over: Mapping[str, str]
    log: str
    missing: Mapping[str, str]


@dataclass(frozen=True)
class Converter:
    """Converts models on this machine; safe to use from several threads.

    Attributes:
        environments: of the backends.
        runner: starts their processes.
        scratch: folder for the jobs' files; None: the machine's temporary one.
    """

    environments: Environments
    runner: Runner
    scratch: Path | None = None

    def convert(self, request: Request, target: Path, cancel: threading.Event | None = None) -> Conversion:
        """Write the converted model to the new folder `target`, once the gate has passed.

        Raises:
            ConversionFailed: no route, no backend that knows the model, or the converter broke.
            BackendUnavailable: none of the route's environments can be had.
            GateFailed: the result is not its source's equal; nothing is written.
            InvalidField: shapes or an option lack or are wrong.
            JobStopped: `cancel` was set.
        """
        route = routes.find_route(request.source_format, request.target_format)
        if target.exists():
            raise ConversionFailed(f"the target {target.name} is there already")
        request = replace(request, options=routes.checked_options(route, request.options))
        route = routes.narrowed(route, request.options)
        if routes.executes_code(route, request.options):
            self.runner.isolation.require(f"a {route.source} model with allow_pickle")
        with job_folder(self.scratch) as folder:
            return _Work(self, request, route, folder, cancel).do(target)


@dataclass
class _Work:
    """One conversion under way."""

    converter: Converter
    request: Request
    route: Route
    folder: Path
    cancel: threading.Event | None
    notes: list[str] = field(default_factory=list)

    def do(self, target: Path) -> Conversion:
        reference = self._reference()
        backend, told, passed_over = self._converted(reference)
        self.notes += [f"{name} was passed over: {why}" for name, why in passed_over.items()]
        source = told
        if reference and reference[0].name != backend.name:
            source = self._run(*reference, self._job(reference[0], ("draw", "predict")))
        elif reference is None:
            self.notes.append("no runtime of the source is here: the numbers were not compared")
        self.notes += source.values.get("notes", ())
        runtime = BACKENDS[self.route.runtime]
        result = self._run(runtime, self._environment(runtime), self._result_job(runtime))
        report = self._report(backend, reference[0] if reference else None, told, source, result)
        report.require_pass()
        take_over(self.folder / TARGET, target, self.converter.runner.bounds)
        signature = ModelSignature.from_json(result.values["signature"])
        missing = self.converter.runner.isolation.missing
        return Conversion(backend.name, report, signature, passed_over, told.log, missing)

    def _reference(self) -> tuple[Backend, Environment] | None:
        """The first backend of the route that can run the source."""
        for name in self.route.references:
            try:
                return BACKENDS[name], self._environment(BACKENDS[name])
            except BackendUnavailable as error:
                self.notes.append(str(error))
        return None

    def _converted(
        self, reference: tuple[Backend, Environment] | None
    ) -> tuple[Backend, Told, dict[str, str]]:
        """Convert with the first backend that can; the reference runs the source in the same process."""
        passed_over: dict[str, str] = {}
        last: ConversionFailed | None = None
        for name in self.route.backends:
            backend = BACKENDS[name]
            compares = reference is not None and reference[0].name == name
            self._empty()
            try:
                where = self._environment(backend)
                job = self._job(backend, ("convert", "draw", "predict") if compares else ("convert",))
                return backend, self._run(backend, where, job), passed_over
            except (UnsupportedByBackend, BackendUnavailable) as error:
                passed_over[name] = str(error)
                last = error
        if last is None:
            raise ConversionFailed(f"the route {self.route.source} to {self.route.target} has no backend")
        if len(passed_over) == 1:
            raise last
        raise ConversionFailed("; ".join(passed_over.values()), last.log)

    def _empty(self) -> None:
        """Nothing of a backend that gave up is left for the next one."""
        for name in (TARGET, SAMPLES):
            shutil.rmtree(self.folder / name)
            (self.folder / name).mkdir()

    def _job(self, backend: Backend, steps: tuple[Any, ...]) -> Job:
        request = self.request
        stored = request.signature is not None and bool(request.signature.inputs)
        given = request.signature.inputs if stored and request.signature else request.inputs
        return Job(
            folder=self.folder,
            backend=backend.name,
            source=request.source.resolve(),
            source_format=self.route.source,
            target_format=self.route.target,
            steps=steps,
            label=gate.SOURCE,
            given=given,
            outputs=tuple(each.name for each in request.signature.outputs) if request.signature else (),
            given_by="signature.inputs" if stored else "inputs",
            options=dict(request.options),
            seed=request.seed,
            cpu_s=self.converter.runner.bounds.cpu_s,
        )

    def _result_job(self, runtime: Backend) -> Job:
        """The result is opened as a source, by the runtime that it is made for."""
        job = self._job(runtime, ("check", "predict"))
        return replace(
            job,
            source=self.folder / TARGET,
            source_format=self.route.target,
            label=gate.RESULT,
            given=(),
            options={},
        )

    def _environment(self, backend: Backend) -> Environment:
        return self.converter.environments.get(backend, self.cancel)

    def _run(self, backend: Backend, where: Environment, job: Job) -> Told:
        return self.converter.runner.run(backend, where, job, self.cancel)

    def _report(
        self, backend: Backend, reference: Backend | None, told: Told, source: Told, result: Told
    ) -> gate.EquivalenceReport:
        route, request = self.route, self.request
        lossy = routes.is_lossy(route, request.options)
        asked = 0.0 if route.keeps else request.tolerance
        compared = gate.Compared()
        if reference is not None:
            kinds = [Kind(**kind) for kind in source.values["kinds"]]
            refused = {gate.SOURCE: source.values["not_taken"], gate.RESULT: result.values["not_taken"]}
            compared = gate.compare(self.folder, kinds, refused, Tolerance(asked, lossy))
        signatures = [ModelSignature.from_json(each.values["signature"]) for each in (source, result)]
        problems = gate.signature_problems(*signatures) if signatures[0].inputs else []
        if lossy:
            self.notes.append(
                "this conversion changes numbers by design; the result is not equal to its source"
            )
        return gate.EquivalenceReport(
            source_format=route.source,
            target_format=route.target,
            backend=backend.name,
            reference=reference.name if reference else "",
            runtime=route.runtime,
            lossy=lossy,
            tolerance=asked,
            seed=request.seed,
            samples=compared.samples,
            outputs=compared.outputs,
            facts=result.values.get("facts", {}),
            versions={**result.values["versions"], **source.values["versions"], **told.values["versions"]},
            notes=(*self.notes, *compared.notes),
            problems=(*problems, *compared.problems),
            seconds={"convert": told.values["seconds"], "result": result.values["seconds"]},
        )
