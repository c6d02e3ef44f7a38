"""Where the steps of a ModelJob open foreign files: in confined children of this machine, or in pods."""

from __future__ import annotations

from typing import Any, Protocol

from catchment.catalog.rows import VersionFile
from catchment.formats.extract.result import Extracted
from catchment.model_jobs.claim import ModelJobClaim
from catchment.store import Store


class Executor(Protocol):
    """Does the steps' work. Every method may be called again by a run that was resumed."""

    def prepare(self, store: Store, claim: ModelJobClaim, files: list[VersionFile]) -> None:
        """Have the source's files ready for the step that follows."""

    def extract(self, store: Store, claim: ModelJobClaim, step: str) -> Extracted:
        """Read the signature of the source, or, after a conversion, of what that has made.

        Raises:
            ExtractionFailed: the files are damaged, hostile, or of another format.
            JobStopped, LeaseLost: meanwhile.
        """

    def convert(self, store: Store, claim: ModelJobClaim) -> dict[str, Any]:
        """Convert the source; what was made are blobs of the job then. What `working.work` has found.

        Raises:
            ConversionFailed, GateFailed, BackendUnavailable: as Converter.convert.
            JobStopped, LeaseLost: meanwhile.
        """

    def forget(self, store: Store, namespace: str, uid: str) -> None:
        """End what still runs for a job that nobody works on any more. Raises Unreachable."""


def executor(store: Store) -> Executor:
    """The one that the settings name.

    Raises:
        SetupError: what it needs is not configured.
    """
    if store.settings.model_job_runner == "kubernetes":
        from catchment.model_jobs.kubernetes.executor import KubernetesExecutor

        return KubernetesExecutor.configured(store.settings)
    from catchment.model_jobs.local import LocalExecutor

    return LocalExecutor()
