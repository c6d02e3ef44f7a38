"""All settings of Catchment's processes: environment variables with the prefix CATCHMENT_."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Read once at a process's start, then passed in.

    `Settings()` reads the environment; keyword arguments win over it.
    """

    model_config = SettingsConfigDict(env_prefix="CATCHMENT_", extra="forbid", frozen=True)

    home: Annotated[Path, Field(description="Folder of a single machine's installation.")] = Path(
        "~/.catchment"
    ).expanduser()
    database_url: Annotated[
        str, Field(description="SQLAlchemy URL of the store; empty: SQLite in the home folder.")
    ] = ""
    storage_url: Annotated[
        str,
        Field(description="fsspec URL that holds blobs/ and namespaces/; empty: the home folder itself."),
    ] = ""
    s3_endpoint_url: Annotated[
        str, Field(description="Endpoint of an S3-compatible server; empty: Amazon's own.")
    ] = ""
    cache_dir: Annotated[
        Path | None, Field(description="Local copies of remote blobs; empty: cache/ in the home folder.")
    ] = None
    auth: Annotated[
        Literal["loopback", "tokens"],
        Field(description="'loopback': no token, only this machine; 'tokens': bearer tokens always."),
    ] = "loopback"
    site_lease_s: Annotated[
        Seconds, Field(description="A site without a sign of life for so long has failed its open work.")
    ] = 30.0
    site_poll_s: Annotated[Seconds, Field(description="How long a site's request for work is held open.")] = (
        10.0
    )
    job_lease_s: Annotated[
        Seconds, Field(description="A flow process that does not renew its lease for so long is lost.")
    ] = 20.0
    cohort_wait_s: Annotated[
        Seconds,
        Field(
            description="How long a round waits for sites, at most the job's round_timeout; "
            "the whole of it while no site at all is heard."
        ),
    ] = 600.0
    start_timeout_s: Annotated[
        Seconds, Field(description="How long a started job may wait for a runner to take it.")
    ] = 120.0
    secure_step_timeout_s: Annotated[
        Seconds,
        Field(
            description="How long a step of secure aggregation waits for its sites: keys, shares, "
            "confirmations, unmasking."
        ),
    ] = 60.0
    evaluation_timeout_s: Annotated[
        Seconds, Field(description="How long a round's evaluation may take, at most the job's round_timeout.")
    ] = 600.0
    step_timeout_s: Annotated[
        Seconds,
        Field(
            description="How long a step of a run may take beside its waits for sites; large updates have "
            "longer. Then it is given up and tried once more."
        ),
    ] = 1800.0
    supervise_s: Annotated[
        Seconds, Field(description="How often the supervisor looks for lost, stopping and deleted jobs.")
    ] = 2.0
    max_running_jobs: Annotated[
        int, Field(gt=0, description="Jobs that run at a time; further ones wait as QUEUED.")
    ] = 16
    max_running_jobs_per_namespace: Annotated[
        int, Field(gt=0, description="Jobs of one namespace that run at a time.")
    ] = 16
    max_resumes: Annotated[
        int, Field(ge=0, description="How often a lost run is resumed without a round committed in between.")
    ] = 5
    max_update_bytes: Annotated[
        int, Field(gt=0, description="Largest client update that the exchange accepts.")
    ] = 16 * 2**30
    max_scripts_bytes: Annotated[
        int, Field(gt=0, description="Largest folder of scripts that a job may send to its sites.")
    ] = 64 * 2**20
    max_files_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Largest set of files that travels with one work: what a broadcast function sends, "
            "what a script hands over with put_file, what a finish function writes.",
        ),
    ] = 2**30
    extender_timeout_s: Annotated[
        Seconds,
        Field(description="How long one call of a job's extenders may take; aggregate: a whole round."),
    ] = 600.0
    extender_memory_mb: Annotated[
        int, Field(gt=0, description="Memory that the process of a job's extenders may reserve, in MB.")
    ] = 8000
    upload_stall_s: Annotated[
        Seconds,
        Field(
            description="A model version that nothing is heard of for so long while its bytes are waited for "
            "becomes an error; sending the rest makes it go on."
        ),
    ] = 600.0
    max_model_bytes: Annotated[int, Field(gt=0, description="Largest model version that is taken.")] = (
        64 * 2**30
    )
    signed_url_s: Annotated[
        int, Field(gt=0, le=604800, description="How long a signed address of the storage can be used.")
    ] = 3600
    registry_url: Annotated[
        str,
        Field(
            pattern=r"^(https?://[^/?#@\s]+)?$",
            description="Address of an OCI registry, Harbor for one, that /v2 and Harbor's API pass on to; "
            "empty: /v2 is served from the store.",
        ),
    ] = ""
    registry_ca_file: Annotated[
        Path | None,
        Field(description="Authorities (PEM) that the registry's certificate is checked against."),
    ] = None
    registry_aliases: Annotated[
        str,
        Field(
            description="Other host names of that registry, with ports, separated by commas: those that it "
            "calls itself by in its answers."
        ),
    ] = ""
    gateway_timeout_s: Annotated[
        Seconds,
        Field(
            description="How long a request to a serving may take until its answer begins, the arrival of "
            "its body included; then nothing may stand still for so long."
        ),
    ] = 60.0
    gateway_max_request_bytes: Annotated[
        int, Field(gt=0, description="Largest request that the gateway passes on to a serving.")
    ] = 256 * 2**20
    gateway_mirror_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the inferences that the other version is asked too while a rollout is "
            "live; 0: none are compared.",
        ),
    ] = 0.2
    gateway_mirror_bytes: Annotated[
        int, Field(ge=0, description="Larger requests and answers of servings are never compared.")
    ] = 256 * 2**10
    prefect_ui_url: Annotated[
        str, Field(description="Address of the Prefect UI that answers and the terminal show.")
    ] = ""

    @property
    def effective_database_url(self) -> str:
        """The store's SQLAlchemy URL with the default filled in."""
        return self.database_url or f"sqlite:///{self.home / 'catchment.db'}"

    @property
    def effective_storage_url(self) -> str:
        """The storage root's fsspec URL with the default filled in."""
        return self.storage_url or self.home.absolute().as_uri()

    @property
    def effective_cache_dir(self) -> Path:
        """The folder of local copies of remote blobs."""
        return self.cache_dir or self.home / "cache"
