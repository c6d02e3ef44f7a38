"""Windows that slide over images: kernel, stride, padding, and how many places there are for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catchment.errors import ConversionFailed


@dataclass(frozen=True)
class Window:
    """A sliding window; each tuple has one number for every spatial dimension.

    Attributes:
        kernel: its size.
        stride: its step.
        begin: rows of padding before the image.
        end: rows of padding behind the image.
        dilation: distance of neighbours inside the window.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    dilation: tuple[int, ...]

    def __post_init__(self) -> None:
        ranks = {len(each) for each in (self.kernel, self.stride, self.begin, self.end, self.dilation)}
        if len(ranks) != 1:
            raise ConversionFailed(
                "kernel, stride, padding and dilation have different numbers of dimensions"
            )
        if (
            min(self.kernel + self.stride + self.dilation, default=1) < 1
            or min(self.begin + self.end, default=0) < 0
        ):
            raise ConversionFailed("kernel, stride and dilation are at least 1, padding at least 0")

    @property
    def pads(self) -> list[int]:
        """Padding in ONNX's order: all begins, then all ends."""
        return [*self.begin, *self.end]

    def overhang(self, sizes: Sequence[int], *, clip: bool) -> tuple[int, ...]:
        """Rows that the last window hangs over the padded image when places are counted upwards (ceil).

        Args:
            sizes: of the image.
            clip: drop a last window that begins behind the image, as Caffe does if anything is padded.

        Raises:
            ConversionFailed: the window does not fit, or would see nothing but padding.
        """
        found = []
        for size, kernel, stride, begin, end in zip(
            sizes, self.kernel, self.stride, self.begin, self.end, strict=True
        ):
            room = size + begin + end - kernel
            if room < 0:
                raise ConversionFailed(
                    f"a window of {kernel} does not fit into {size} with padding {begin}+{end}"
                )
            last = -(-room // stride)
            if clip and any(self.begin + self.end) and last * stride >= size + begin:
                last -= 1
            if last * stride >= size + begin:
                raise ConversionFailed(
                    f"a window of {kernel} by steps of {stride} would see nothing but padding"
                )
            found.append(max(0, last * stride - room))
        return tuple(found)


def spread(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """One number for all dimensions, or one for each.

    Raises:
        ConversionFailed: there are more or fewer numbers than dimensions.
    """
    numbers = (value,) if isinstance(value, int) else tuple(value)
    if len(numbers) == 1:
        return numbers * rank
    if len(numbers) != rank:
        raise ConversionFailed(f"{list(numbers)} was given for {rank} dimensions")
    return numbers
