"""A site's half of differential privacy: clip an update and noise it before it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from catchment.models.tensors import TensorFile, TensorWriter
from catchment.models.updates import blocks
from catchment.privacy.clipping import clip_factor, update_norm
from catchment.privacy.noise import NoiseSource, add_gaussian
from catchment.wire.messages import SitePrivacy

PRIVATE = "private.safetensors"
"""Name of the file that takes the update's place, beside it."""


def privatise(update: Path, privacy: SitePrivacy, noise: NoiseSource | None = None) -> Path:
    """The update clipped and noised, as a new file beside it; the original is removed.

    Integer and boolean tensors are data too and cannot be noised: they leave as zeros, and the coordinator
    keeps the values that it has. Read and written in blocks, so memory does not grow with the model.

    Args:
        update: a client update of finite numbers.
        privacy: what the work order asks for.
        noise: where the noise comes from; by default a new source.

    Raises:
        BadTensors: the file is no update, or the noise would not fit a tensor's dtype.
    """
    source = noise or NoiseSource()
    private = update.with_name(PRIVATE)
    with TensorFile.open(update) as tensors:
        factor = clip_factor(update_norm(tensors), privacy.clip_norm)
        with TensorWriter.create(private, tensors.signature, tensors.metadata) as writer:
            for name, info in tensors.signature.items():
                # One draw a tensor is made once, not once a block.
                shared = source.gaussian(1, privacy.noise_std)[0] if privacy.same_noise else 0.0
                for start, stop in blocks(info.num_elements):
                    if not info.is_float:
                        writer.write_block(name, np.zeros(stop - start, info.compute_dtype))
                        continue
                    values = tensors.block(name, start, stop, np.float64) * factor
                    if privacy.same_noise:
                        values += shared
                    else:
                        add_gaussian(source, values, privacy.noise_std)
                    writer.write_block(name, values)
    update.unlink()
    return private
