"""Secure aggregation between coordinator and site: what an order says of it, and the steps' names.

```text
POST   /sites/{site}/work/{id}/secagg/{step}    a Said step's message  -> 204; the same again is harmless,
                                                another one is 409
GET    /sites/{site}/work/{id}/secagg/{step}    a Told step's message, 204 while there is none; held open
                                                up to `wait_s`; 409 when the attempt is over, or goes on
                                                without the site
```

The messages are those of `catchment.secagg.messages`, as JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from catchment.secagg.messages import Plan

Said = Literal["advertise", "shares", "confirmation", "unmasking", "refusal"]
"""Steps at which a site speaks."""
Told = Literal["roster", "delivery", "survivors", "request"]
"""Steps at which it is told something."""

MASKED = "@masked"
"""The one tensor (U32) of a masked update's file."""


class SharedNoise(BaseModel):
    """What an order says of the noise that a site adds before it masks."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    clip_norm: Annotated[float, Field(gt=0, description="Largest L2 norm of one site's update.")]
    noise_multiplier: Annotated[float, Field(ge=0, description="Std of all shares' sum over clip_norm.")]
    sharers: Annotated[
        int, Field(ge=1, description="So many sites bring the whole noise; no sum of fewer is taken part in.")
    ]


class SecureOrder(BaseModel):
    """How a site masks its update."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    plan: Plan
    clip_value: Annotated[float, Field(gt=0, description="Each element of an update is clipped to +-this.")]
    sample_cap: Annotated[int, Field(ge=1, description="A site counts with so many samples at most.")]
    by_samples: Annotated[bool, Field(description="Updates are weighted by samples; false: all alike.")] = (
        True
    )
    noise: Annotated[SharedNoise | None, Field(description="Differential privacy; None: no noise.")] = None

    @model_validator(mode="after")
    def _noise_suits(self) -> SecureOrder:
        if self.noise is not None and self.plan.threshold < self.noise.sharers:
            raise ValueError("threshold must not be below the number of sites that bring the whole noise")
        return self


class Refusal(BaseModel):
    """A site tells that it will not go on in this attempt, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sender: Annotated[str, Field(min_length=1, max_length=63)]
    reason: Annotated[str, Field(max_length=1000)]
