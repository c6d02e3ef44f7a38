"""Small Caffe models with random weights, written byte by byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from catchment.formats.protobuf_writer import content, packed_reals, single_integers

Shapes = Mapping[str, Sequence[int]]


def caffemodel(blobs: Mapping[str, Sequence[np.ndarray]], *, legacy: bool = False) -> bytes:
    """A NetParameter with these layers' blobs; `legacy` is the V1 form, whose blobs have four dimensions."""
    layers = []
    for name, arrays in blobs.items():
        if legacy:
            parts = [content(6, _legacy_blob(array)) for array in arrays]
            layers.append(content(2, content(4, name) + b"".join(parts)))
        else:
            shaped = [
                content(7, single_integers(1, array.shape)) + packed_reals(5, array) for array in arrays
            ]
            layers.append(content(100, content(1, name) + b"".join(content(7, blob) for blob in shaped)))
    return content(1, "net") + b"".join(layers)


def _legacy_blob(array: np.ndarray) -> bytes:
    dims = (1,) * (4 - array.ndim) + array.shape
    return b"".join(single_integers(n, [d]) for n, d in enumerate(dims, 1)) + packed_reals(5, array)


def write(
    folder: Path,
    layers: str,
    inputs: Shapes,
    blobs: Mapping[str, Sequence[np.ndarray]],
    *,
    legacy: bool = False,
) -> Path:
    """A model's folder, with inputs in the old way."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ['name: "net"']
    for name, shape in inputs.items():
        dims = " ".join(f"dim: {dim}" for dim in shape)
        lines.append(f'input: "{name}" input_shape {{ {dims} }}')
    (folder / "net.prototxt").write_text("\n".join([*lines, layers]))
    (folder / "net.caffemodel").write_bytes(caffemodel(blobs, legacy=legacy))
    return folder


class Drawing:
    """A network that is drawn layer by layer, each with random blobs."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.blobs: dict[str, list[np.ndarray]] = {}

    def layer(
        self, kind: str, name: str, bottoms: str, params: str = "", blobs: Sequence[np.ndarray] = ()
    ) -> str:
        """Add a layer; its top has its name. In place where the name ends in '!': the top is the bottom."""
        top = bottoms if name.endswith("!") else name
        name = f"{name.rstrip('!')}{len(self.lines)}" if name.endswith("!") else name
        read = " ".join(f'bottom: "{each}"' for each in bottoms.split())
        self.lines.append(f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top}" {params} }}')
        if blobs:
            self.blobs[name] = list(blobs)
        return top

    def values(self, *shape: int) -> np.ndarray:
        """Random numbers whose sums over the later dimensions stay near 1."""
        fan = max(1, int(np.prod(shape[1:])))
        return (self.random.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)

    def conv(
        self,
        name: str,
        bottom: str,
        cin: int,
        cout: int,
        k: int,
        *,
        stride: int = 1,
        pad: int = 0,
        group: int = 1,
    ) -> str:
        """Convolution with a bias."""
        params = f"num_output: {cout} kernel_size: {k} stride: {stride} pad: {pad} group: {group}"
        blobs = [self.values(cout, cin // group, k, k), self.values(cout) * np.float32(0.1)]
        return self.layer("Convolution", name, bottom, f"convolution_param {{ {params} }}", blobs)

    def bn(self, bottom: str, channels: int) -> str:
        """BatchNorm and Scale, both in place."""
        mean, variance = self.random.standard_normal(channels) * 3, self.random.uniform(0.5, 2, channels) * 3
        blobs = [mean.astype(np.float32), variance.astype(np.float32), np.array([3.0], np.float32)]
        self.layer("BatchNorm", "bn!", bottom, "", blobs)
        trained = [self.random.uniform(0.5, 1.5, channels).astype(np.float32), self.values(channels)]
        return self.layer("Scale", "scale!", bottom, "scale_param { bias_term: true }", trained)

    def relu(self, bottom: str) -> str:
        """ReLU in place."""
        return self.layer("ReLU", "relu!", bottom)

    def pool(self, name: str, bottom: str, kind: str, k: int, stride: int, pad: int = 0) -> str:
        """Pooling, with Caffe's rounding up."""
        return self.layer(
            "Pooling",
            name,
            bottom,
            f"pooling_param {{ pool: {kind} kernel_size: {k} stride: {stride} pad: {pad} }}",
        )

    def global_pool(self, bottom: str) -> str:
        """The mean of each channel."""
        return self.layer("Pooling", "global", bottom, "pooling_param { pool: AVE global_pooling: true }")

    def fc(self, name: str, bottom: str, features: int, units: int) -> str:
        """InnerProduct with a bias."""
        blobs = [self.values(units, features), self.values(units)]
        return self.layer(
            "InnerProduct", name, bottom, f"inner_product_param {{ num_output: {units} }}", blobs
        )

    def write(self, folder: Path, inputs: Shapes) -> Path:
        """The model's folder."""
        return write(folder, "\n".join(self.lines), inputs, self.blobs)
