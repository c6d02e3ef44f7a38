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
    environments_dir: Annotated[
        Path | None,
        Field(description="Environments of converters; empty: environments/ in the folder of copies."),
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
    serving_backend: Annotated[
        Literal["local", "kubernetes", "kserve", "seldon"],
        Field(description="Where servings run that do not say so themselves."),
    ] = "local"
    serving_ready_timeout_s: Annotated[
        Seconds, Field(description="How long a rollout waits until its model servers are ready.")
    ] = 300.0
    serving_conversion_timeout_s: Annotated[
        Seconds,
        Field(description="How long a rollout waits for the conversion of a model that its backend needs."),
    ] = 1800.0
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
    serving_image: Annotated[
        str,
        Field(
            description="Image with Catchment: the model server for ONNX, and what fetches models in pods."
        ),
    ] = "catchment:0.1.0"
    serving_triton_image: Annotated[str, Field(description="Image of NVIDIA's Triton.")] = (
        "nvcr.io/nvidia/tritonserver:24.12-py3"
    )
    serving_mlserver_image: Annotated[str, Field(description="Image of Seldon's MLServer.")] = (
        "docker.io/seldonio/mlserver:1.7.1"
    )
    serving_openscoring_image: Annotated[
        str,
        Field(
            description="Image that serves MODEL_STORE/SERVING_NAME/model/*.pmml at "
            "/openscoring/model/SERVING_NAME; empty: PMML cannot be served on clusters."
        ),
    ] = ""
    serving_image_pull_secret: Annotated[
        str,
        Field(description="Secret in each serving's namespace with the login for its images; empty: none."),
    ] = ""
    serving_registry: Annotated[
        str,
        Field(
            pattern=r"^(https?://[^/?#@\s]+)?$",
            description="Address of the registry (/v2) as pods reach it, such as "
            "http://catchment-api.catchment:8080; servings on clusters need it.",
        ),
    ] = ""
    serving_registry_secret: Annotated[
        str,
        Field(
            description="Secret in each serving's namespace with that registry's login, keys username and "
            "password; empty: no login."
        ),
    ] = ""
    serving_registry_ca: Annotated[
        str,
        Field(
            description="ConfigMap in each serving's namespace with the authorities of that registry's "
            "certificate, key ca.crt; empty: those of the image."
        ),
    ] = ""
    serving_gateways: Annotated[
        str,
        Field(
            description="Gateways that HTTPRoutes belong to, NAMESPACE/NAME or NAMESPACE/NAME/SECTION, "
            "separated by commas; empty: servings are reached inside the cluster only."
        ),
    ] = ""
    serving_host: Annotated[
        str, Field(description="Host names of HTTPRoutes, separated by commas; empty: all of the gateway's.")
    ] = ""
    serving_cluster_domain: Annotated[
        str, Field(description="What names of the cluster's services end in.")
    ] = "svc.cluster.local"
    serving_start_timeout_s: Annotated[
        int, Field(ge=10, le=86400, description="How long a serving's pods may take until they are ready.")
    ] = 600
    serving_readiness_gate: Annotated[
        bool,
        Field(
            description="Hold pods of plain Deployments out of their Service until Catchment has verified "
            "them; pods that are replaced wait for Catchment, too."
        ),
    ] = False
    kserve_mode: Annotated[
        Literal["standard", "serverless"],
        Field(
            description="'standard': an InferenceService for each revision and an HTTPRoute; 'serverless': "
            "one with canaryTrafficPercent, for rendered manifests only."
        ),
    ] = "standard"
    kubeconfig: Annotated[
        Path | None,
        Field(
            description="File that names Kubernetes clusters; empty: what a pod finds in itself, else "
            "KUBECONFIG or ~/.kube/config."
        ),
    ] = None
    kubernetes_context: Annotated[str, Field(description="Context of that file; empty: its current one.")] = (
        ""
    )
    kubernetes_namespace: Annotated[
        str,
        Field(
            pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$",
            description="Namespace of the cluster that everything runs in; empty: the one of the same name "
            "as Catchment's.",
        ),
    ] = ""
    model_job_runner: Annotated[
        Literal["local", "kubernetes"],
        Field(description="Where ModelJobs open models: 'local', confined children; 'kubernetes', pods."),
    ] = "local"
    model_job_image: Annotated[
        str,
        Field(
            pattern=r"^(\S*\{backend\}\S*)?$",
            description="Image of a ModelJob's pods; {backend} stands for extraction, base, torch, "
            "tensorflow, sklearn, mxnet, mmdnn or opencv.",
        ),
    ] = ""
    model_job_api_url: Annotated[
        str,
        Field(
            pattern=r"^(https?://[^/?#@\s]+)?$",
            description="Address of this API as pods reach it, where ModelJobs run in them.",
        ),
    ] = ""
    model_job_start_s: Annotated[
        Seconds,
        Field(description="How long a ModelJob's pod may wait for a node, its image or a secret."),
    ] = 600.0
    model_job_time_s: Annotated[
        Seconds, Field(description="How long one step of a ModelJob may take in its pod.")
    ] = 3600.0
    model_job_cpu: Annotated[
        str,
        Field(pattern=r"^\d+(\.\d+|m)?$", description="CPU that a ModelJob's pod asks for and may use."),
    ] = "2"
    model_job_memory: Annotated[
        str,
        Field(pattern=r"^\d+(Mi|Gi)$", description="Memory that a ModelJob's pod asks for and may use."),
    ] = "8Gi"
    model_job_disk: Annotated[
        str,
        Field(
            pattern=r"^\d+(Mi|Gi)$",
            description="Disk of a ModelJob's pod: for the model and for its result, each.",
        ),
    ] = "20Gi"
    log_format: Annotated[
        Literal["text", "json"],
        Field(description="'text': plain log lines; 'json': one JSON object a line."),
    ] = "text"
    otlp_endpoint: Annotated[
        str,
        Field(
            description="Base address of an OpenTelemetry collector that takes OTLP over HTTP; empty: the "
            "standard OTEL_EXPORTER_OTLP_ENDPOINT, and without that nothing is traced."
        ),
    ] = ""
    metrics_access: Annotated[
        Literal["login", "open"],
        Field(
            description="Who may read /metrics: 'login': who may see jobs, as everywhere; 'open': whoever "
            "reaches the API."
        ),
    ] = "login"
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

    @property
    def effective_environments_dir(self) -> Path:
        """The folder of converters' environments."""
        return self.environments_dir or self.effective_cache_dir / "environments"
