"""Names, labels and weights in manifests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from catchment.errors import InvalidField
from catchment.serving.workload import ServingKey, Workload
from catchment.settings import Settings

MOST_LABEL = 63
"""Characters of a label's value, and of a DNS label."""
NAMESPACE, MANAGED_BY = "catchment.io/namespace", "app.kubernetes.io/managed-by"
SERVING, SERVING_UID, WORKLOAD = "catchment.io/serving", "catchment.io/serving-uid", "catchment.io/workload"
MODEL, DIGEST = "catchment.io/model", "catchment.io/model-digest"
MANAGER = "catchment"
"""Who the fields of applied objects belong to."""
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

Manifest = dict[str, Any]


def shortened(name: str, most: int = MOST_LABEL) -> str:
    """The name itself, or its beginning with a part of its digest where it is too long."""
    if len(name) <= most:
        return name
    return f"{name[: most - 9].rstrip('-._')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def serving_labels(serving: ServingKey) -> dict[str, str]:
    """What everything of a serving is found by."""
    return {
        "app": shortened(serving.name),
        MANAGED_BY: MANAGER,
        NAMESPACE: serving.namespace,
        SERVING: shortened(serving.name),
        SERVING_UID: serving.uid,
        "seldon-deployment-id": shortened(serving.name),
    }


def workload_labels(workload: Workload) -> dict[str, str]:
    """What everything of a workload is found by, its pods too."""
    return {
        **serving_labels(workload.serving),
        "app": workload.key,
        WORKLOAD: workload.key,
        "seldon-app": shortened(f"{workload.serving.name}-{workload.graph}"),
    }


def cluster_namespace(serving: ServingKey, settings: Settings) -> str:
    """The cluster's namespace of a serving: of the same name, or the one that everything runs in."""
    return settings.kubernetes_namespace or serving.namespace


def model_annotations(workload: Workload) -> dict[str, str]:
    """Which model it is, for people."""
    return {MODEL: workload.model.reference, DIGEST: workload.model.digest}


def check_dns_label(name: str, field: str) -> str:
    """The name itself. Raises InvalidField for what cannot name a container or a service."""
    if not _LABEL.fullmatch(name):
        raise InvalidField(
            field,
            f"{name[:80]!r} is no name on a cluster: at most {MOST_LABEL} lower case letters, digits "
            "and '-', with a letter or digit at both ends",
        )
    return name


def check_weights(weights: Mapping[str, int]) -> None:
    """Whether they are percent of all traffic. Raises InvalidField."""
    for key, weight in weights.items():
        if not 0 <= weight <= 100:
            raise InvalidField("traffic", f"{weight} for {key} is no percentage from 0 to 100")
    if weights and sum(weights.values()) != 100:
        raise InvalidField("traffic", f"the weights add up to {sum(weights.values())}, not to 100")
