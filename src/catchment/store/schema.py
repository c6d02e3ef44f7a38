"""The store's tables.

Times are seconds since the epoch (UTC) as doubles, so that both databases compare and return them
exactly alike; JSON columns keep the order of keys.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

namespaces = Table(
    "namespaces",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("created_at", Double, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    # Survives nothing but the job itself: a job deleted and created again under its id is another one.
    Column("uid", String(32), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("id", String(100), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("progress", Integer, nullable=False, default=0),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("state_since", Double, nullable=False),
    # A run is one training from initial weights to the last round; a start after a failure continues it.
    Column("run", Integer, nullable=False, default=0),
    # What the current run began from, [field, value]; a start with another source begins a new run.
    Column("run_source", JSON),
    # Digest of the current run's initial weights, once they were read.
    Column("initial_weights", String(71)),
    # Digest of the strategy's state that the run begins with: none, or a checkpoint's.
    Column("initial_state", String(71)),
    # Folders of all runs, relative to the namespace's folder: what a delete removes.
    Column("run_folders", JSON, nullable=False, default=list),
    # The scripts that the current start sends to the sites, as a wire SentScripts.
    Column("sent_scripts", JSON),
    # The trusted roots (PEM) of the job's `ssl`, as they were when the current start was prepared.
    Column("trusted_roots", Text),
    # The packed extenders and the start that packed them; see extenders.script.Packed.
    Column("extender", JSON),
    Column("starts", Integer, nullable=False, default=0),
    Column("resumes", Integer, nullable=False, default=0),
    Column("stop_requested", Boolean, nullable=False, default=False),
    # A start that waits for a free place, since when, and whether it begins a new run.
    Column("queued_at", Double),
    Column("queued_fresh", Boolean, nullable=False, default=False),
    # Such a job holds no place: it must not keep others from running.
    Column("waits_for_sites", Boolean, nullable=False, default=False),
    Column("flow_run_id", String(64)),
    Column("lease_owner", String(64)),
    Column("lease_until", Double, nullable=False, default=0.0),
    # One supervisor at a time looks after a job.
    Column("supervised_until", Double, nullable=False, default=0.0),
    # Number of the newest line of its log; numbers are drawn under the row's lock.
    Column("log_lines", Integer, nullable=False, default=0, server_default="0"),
    UniqueConstraint("namespace", "id"),
    # With the uid, that the order of a list is the index's own.
    Index(None, "namespace", "created_at", "uid"),
    Index(None, "namespace", "state", "created_at"),
    Index(None, "state"),
)

rounds = Table(
    "rounds",
    metadata,
    Column("job_uid", String(32), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("rule", Text, nullable=False, default=""),
    Column("cohort", JSON, nullable=False),
    Column("weights", String(71), nullable=False),
    Column("new_weights", String(71)),
    # The strategy's state (named arrays) that the round began with, and the one that its commit made.
    Column("state_before", String(71)),
    Column("new_state", String(71)),
    # Name and metrics of the strategy that made the new weights.
    Column("strategy", JSON),
    # What differential privacy did in this round and what it has cost so far.
    Column("privacy", JSON),
    Column("selected_at", Double, nullable=False),
    Column("published_at", Double),
    Column("deadline", Double),
    Column("collected_at", Double),
    Column("committed_at", Double),
    Column("evaluation_deadline", Double),
    Column("evaluated_at", Double),
    # Sample-weighted means over the sites: of the training's own metrics, and of the evaluation.
    Column("training_metrics", JSON),
    Column("metrics", JSON),
    # What the broadcast function returned as parameters, for the training and for the evaluation; its
    # files are in prepared_files.
    Column("training_parameters", JSON),
    Column("evaluation_parameters", JSON),
    # What the aggregate function left for the finish function, until that has run.
    Column("aggregated", String(71)),
    Column("finish_ran_at", Double),
)

# Files that a broadcast function made for the works of one kind of one attempt.
prepared_files = Table(
    "prepared_files",
    metadata,
    Column("job_uid", String(32), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index(None, "digest"),
)

works = Table(
    "works",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("job_uid", String(32), nullable=False),
    Column("run", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("site", String(63), nullable=False),
    Column("state", String(10), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("order", JSON, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("accepted_at", Double),
    Column("finished_at", Double),
    Column("update", String(71)),
    Column("update_bytes", BigInteger, nullable=False, default=0),
    # Zip of what the script handed over with put_file.
    Column("files", String(71)),
    Column("files_bytes", BigInteger, nullable=False, default=0),
    Column("num_samples", BigInteger),
    # Number of the round whose commit took the update.
    Column("counted_in", Integer),
    Column("metrics", JSON),
    Column("parameters", JSON),
    Column("log_tail", Text, nullable=False, default=""),
    Column("seconds", Double, nullable=False, default=0.0),
    # Of a job with `ssl`: all that has to do with it goes over connections with mutual TLS only.
    Column("secured", Boolean, nullable=False, default=False),
    UniqueConstraint("job_uid", "run", "round", "attempt", "kind", "site"),
    Index(None, "site", "state"),
)

sites = Table(
    "sites",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("address", String(255), nullable=False),
    Column("session", String(64), nullable=False),
    Column("registration", JSON, nullable=False),
    Column("registered_at", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("left_at", Double),
    # The client certificate (PEM) that the site registered with; none: not mutually authenticated.
    Column("certificate", Text),
    # Uid of the job whose simulated client this is: no other job sees it. null: a real site.
    Column("simulates", String(32), index=True),
    # Ed25519 public key (hex) that the site registered with first; another one is refused.
    Column("identity", String(64)),
)

# What sites and coordinator said to each other in an attempt at a secure sum; gone when it is committed.
secagg_messages = Table(
    "secagg_messages",
    metadata,
    Column("job_uid", String(32), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("step", String(16), primary_key=True),
    # The site that said it, or that it is for; "" for what is for all.
    Column("site", String(63), primary_key=True),
    Column("body", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_uid", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", String(71), nullable=False),
    # Digest of the strategy's state, saved beside the weights where the strategy has one.
    Column("state", String(71)),
    Column("accuracy", Double),
    Column("metrics", JSON),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("job_uid", "run", "round"),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("job_uid", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("level", String(8), nullable=False),
    # "coordinator", or the name of the site whose script printed it.
    Column("source", String(63), nullable=False),
    Column("run", Integer, nullable=False),
    Column("round", Integer),
    Column("text", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("role", String(8), nullable=False),
    Column("site", String(63)),
    Column("description", Text, nullable=False, default=""),
    Column("hash", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

# A version of a model. Its bytes are model_files, each a blob; whichever face it came in by.
model_versions = Table(
    "model_versions",
    metadata,
    # What users name it by: the document's model_id.
    Column("id", String(32), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", String(128), nullable=False),
    Column("runtime", String(64), nullable=False),
    Column("format", String(32), nullable=False, default=""),
    Column("description", Text, nullable=False, default=""),
    Column("state", String(10), nullable=False),
    Column("progress", Integer, nullable=False, default=0),
    Column("error", Text, nullable=False, default=""),
    # How the bytes come in: copied from the namespace's folder, or uploaded under a name.
    Column("model_path", Text),
    Column("file_name", String(255)),
    Column("digest", String(71)),
    Column("size_bytes", BigInteger, nullable=False, default=0),
    # What its author says of it: framework, signature, metrics and so on, as models.config reads it.
    Column("config", JSON),
    # What it came as: "files", or the form of the artifact that was pushed ("ormb", "modelpack").
    Column("form", String(16), nullable=False, default="files"),
    Column("manifest", String(71), index=True),
    # The digest is that of the artifact's manifest; of files, once they were asked for as an artifact.
    # What is known of the artifact: "blobs", its digests; "layer", facts of one that is made of the files;
    # "referrers", what is attached to it; "held", the registry that keeps it where that is not this one.
    Column("artifact", JSON),
    Column("lineage", JSON, nullable=False),
    # The version that it was made from, and the job whose checkpoint it is; it goes with that job.
    Column("parent", String(32), index=True),
    Column("job_uid", String(32), index=True),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    # The last sign that its bytes are coming: a chunk, or a report of who sends them elsewhere.
    Column("touched_at", Double, nullable=False),
    # Set by who says that the bytes lie at its storage path; they are hashed there.
    Column("reported", Boolean, nullable=False, default=False),
    # Who copies or hashes its bytes just now.
    Column("lease_owner", String(64)),
    Column("lease_until", Double, nullable=False, default=0.0),
    UniqueConstraint("namespace", "name", "version"),
    Index(None, "namespace", "name", "created_at", "id"),
    Index(None, "state"),
)

model_files = Table(
    "model_files",
    metadata,
    Column("version_id", String(32), primary_key=True),
    # Below the model's folder, with '/'.
    Column("path", String(900), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("crc32", BigInteger),
    # The packed layer, a blob, that holds the file; none: the file is a blob itself.
    Column("layer", String(71), index=True),
    Index(None, "digest"),
)

# Blobs of artifacts by repository (namespace and name): uploaded to it, or parts of its artifacts.
artifact_blobs = Table(
    "artifact_blobs",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    # "config", "layer", "manifest", "referrer" for the manifest of what is attached to another one, or "blob"
    # while no manifest has said what it is.
    Column("kind", String(8), nullable=False),
    Column("media_type", String(255), nullable=False, default=""),
    # The version whose artifact it is a part of.
    Column("version_id", String(32), index=True),
    # Whether the bytes are a blob of the store; else they are made from the version's files when asked for.
    Column("stored", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "digest"),
)

# Who did what to which version. Rows are added and never changed; a trigger refuses everything else.
audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("action", String(16), nullable=False),
    Column("model_id", String(32), nullable=False, index=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", String(128), nullable=False),
    # The login that did it; and who the caller said to be beside it, which proves nothing.
    Column("actor", String(80), nullable=False),
    Column("claimed", Text, nullable=False, default=""),
    Column("detail", JSON, nullable=False),
)

# Extractions and conversions of model versions, as the registry's document has them.
model_jobs = Table(
    "model_jobs",
    metadata,
    Column("uid", String(32), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("phase", String(10), nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("created_by", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("phase_since", Double, nullable=False),
    Column("flow_run_id", String(64), index=True),
    Column("lease_owner", String(64)),
    Column("lease_until", Double, nullable=False, default=0.0),
    Column("resumes", Integer, nullable=False, default=0),
    Column("stop_requested", Boolean, nullable=False, default=False),
    # What each finished step has found: a run that is resumed does not repeat it.
    Column("steps", JSON, nullable=False),
    # The version that it reads, once it was found; and the one that it made or changed.
    Column("source_id", String(32), index=True),
    Column("result_id", String(32)),
    Column("log_lines", Integer, nullable=False, default=0),
    UniqueConstraint("namespace", "name"),
    Index(None, "phase"),
)

# What a conversion made, until it is pushed.
model_job_files = Table(
    "model_job_files",
    metadata,
    Column("job_uid", String(32), primary_key=True),
    Column("path", String(900), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("crc32", BigInteger),
    Index(None, "digest"),
)

model_job_events = Table(
    "model_job_events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_uid", String(32), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("type", String(8), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("message", Text, nullable=False),
)

model_job_lines = Table(
    "model_job_lines",
    metadata,
    Column("job_uid", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("text", Text, nullable=False),
)

# Model versions in production.
servings = Table(
    "servings",
    metadata,
    Column("uid", String(32), primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    # Of the body: counts changes of what the user wants.
    Column("generation", Integer, nullable=False, default=1),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    # As the user sent it, and as it was understood.
    Column("body", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("backend", String(16), nullable=False),
    Column("state", String(10), nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("created_by", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("deleting", Boolean, nullable=False, default=False),
    # Numbers of the rollout whose workloads take the traffic, of the one under way, and of the newest.
    Column("stable", Integer),
    Column("rolling", Integer),
    Column("last_rollout", Integer, nullable=False, default=0),
    # Percent by workload key, as last routed.
    Column("weights", JSON, nullable=False),
    # How its workloads were when they were last looked at: by key, serving.workload.Observed.
    Column("observed", JSON, nullable=False),
    UniqueConstraint("namespace", "name"),
    Index(None, "state"),
)

serving_rollouts = Table(
    "serving_rollouts",
    metadata,
    Column("serving_uid", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    # "rollout", or "rollback" to an earlier one, which `target` names.
    Column("kind", String(8), nullable=False),
    Column("target", Integer),
    Column("body", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("created_by", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("phase_since", Double, nullable=False),
    Column("flow_run_id", String(64), index=True),
    Column("lease_owner", String(64)),
    Column("lease_until", Double, nullable=False, default=0.0),
    Column("resumes", Integer, nullable=False, default=0),
    Column("stop_requested", Boolean, nullable=False, default=False),
    # "", "asked", "approved", "rejected", and by whom.
    Column("approval", String(8), nullable=False, default=""),
    Column("approved_by", Text, nullable=False, default=""),
    # What each finished step has found, and the workloads that the rollout came to.
    Column("steps", JSON, nullable=False),
    Column("workloads", JSON, nullable=False),
    Index(None, "phase"),
)

serving_events = Table(
    "serving_events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("serving_uid", String(32), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("type", String(8), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("message", Text, nullable=False),
)

# What a serving host is to run: the local backend's wishes.
serving_workloads = Table(
    "serving_workloads",
    metadata,
    Column("serving_uid", String(32), primary_key=True),
    Column("key", String(63), primary_key=True),
    Column("spec", JSON, nullable=False),
    Column("removing", Boolean, nullable=False, default=False),
    Column("created_at", Double, nullable=False),
)

# Where workloads answer: the processes of a serving host, or a cluster's addresses.
serving_endpoints = Table(
    "serving_endpoints",
    metadata,
    Column("serving_uid", String(32), primary_key=True),
    Column("key", String(63), primary_key=True),
    Column("replica", Integer, primary_key=True),
    Column("host", String(255), nullable=False, default=""),
    # "starting", "ready", "stopping" or "failed".
    Column("state", String(10), nullable=False),
    Column("http", String(300), nullable=False, default=""),
    Column("grpc", String(300), nullable=False, default=""),
    Column("pid", Integer),
    # The process's start in clock ticks since boot, with which a pid names one process only.
    Column("pid_start", BigInteger),
    Column("restarts", Integer, nullable=False, default=0),
    Column("message", Text, nullable=False, default=""),
    Column("updated_at", Double, nullable=False),
)

# What gateways saw of a workload's traffic, added up by each of them.
serving_figures = Table(
    "serving_figures",
    metadata,
    Column("serving_uid", String(32), primary_key=True),
    Column("key", String(63), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("requests", BigInteger, nullable=False, default=0),
    Column("errors", BigInteger, nullable=False, default=0),
    Column("seconds", Double, nullable=False, default=0.0),
    # Requests by latency: counts below each of serving.figures.BUCKETS_S.
    Column("buckets", JSON, nullable=False),
    # Requests that the stable version was asked too, and how many of them it answered otherwise.
    Column("compared", BigInteger, nullable=False, default=0),
    Column("disagreed", BigInteger, nullable=False, default=0),
    Column("updated_at", Double, nullable=False),
)
