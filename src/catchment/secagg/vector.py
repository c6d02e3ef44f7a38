"""A client update as one vector of words, and the sum of such vectors as sums of tensors.

```text
word 0   the weight: the site's number of samples, at most `sample_cap`
     1   1: how many sites are in the sum
     2   how many values were clipped
     3   1 where the number of samples was above `sample_cap`
     …   all tensors in the order of their names: floating-point ones in fixed point, times
         weight / sample_cap; integers and booleans as differences to the round's weights
```

So a sample count is as hidden as the update. Integer tensors have no largest value in a sum; their mean
difference is what can be had.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from catchment.errors import BadTensors
from catchment.models.reading import TensorFile
from catchment.models.signature import Array, Signature
from catchment.secagg.quantise import Floats, Quantiser, Words, signed

HEADER_WORDS = 4
_BLOCK = 1 << 17


@dataclass(frozen=True)
class VectorSum:
    """What the sum of masked vectors says, after the masks are off.

    Attributes:
        num_samples: sum of the sites' weights (numbers of samples, each capped).
        num_sites: how many vectors are in the sum.
        clipped: values that were clipped, over all sites.
        capped: sites that have more samples than the cap.
        floats: name -> `sum(weight * x)`, flat float64; weights are samples, or 1 each.
        integers: name -> sum of differences to the round's weights, flat int64.
    """

    num_samples: int
    num_sites: int
    clipped: int
    capped: int
    floats: dict[str, Floats] = field(default_factory=dict)
    integers: dict[str, Array] = field(default_factory=dict)


class Layout:
    """Where each tensor stands in the vector.

    Args:
        signature: of what a client sends (`strategies.vectors.sent_signature`).
        quantiser: clip and number of parties.
        sample_cap: a site counts with so many samples at most.
        by_samples: weight updates by samples; False: all alike.

    Attributes:
        places: name -> first word, and the word behind the last.
        num_words: of the vector.

    Raises:
        BadTensors: the sum of `parties` sample counts would not fit a word.
    """

    def __init__(
        self, signature: Signature, quantiser: Quantiser, *, sample_cap: int, by_samples: bool = True
    ) -> None:
        if not 1 <= sample_cap <= quantiser.largest_count:
            raise BadTensors(
                f"sample_cap is {sample_cap}; for {quantiser.parties} sites it must be between 1 "
                f"and {quantiser.largest_count}"
            )
        self.signature = {name: signature[name] for name in sorted(signature)}
        self.quantiser = quantiser
        self.sample_cap = sample_cap
        self.by_samples = by_samples
        self.places: dict[str, tuple[int, int]] = {}
        place = HEADER_WORDS
        for name, info in self.signature.items():
            self.places[name] = (place, place + info.num_elements)
            place += info.num_elements
        self.num_words = place

    def encode(self, update: TensorFile, weights: TensorFile, num_samples: int) -> Words:
        """The vector of an update to `weights` that was trained on `num_samples` samples.

        Raises:
            BadTensors: it holds NaN or infinite values, or integers whose sum could wrap; names the tensor.
        """
        if num_samples < 1:
            raise BadTensors(f"sample_num is {num_samples}, it must be at least 1")
        counted = min(num_samples, self.sample_cap)
        share = counted / self.sample_cap if self.by_samples else 1.0
        vector = np.empty(self.num_words, np.uint32)
        clipped = 0
        for name, info in self.signature.items():
            start, stop = self.places[name]
            try:
                if info.is_float:
                    clipped += self._encode_floats(update, name, vector[start:stop], share)
                else:
                    difference = _integers(update, name) - _integers(weights, name)
                    self.quantiser.encode_integers(difference, vector[start:stop])
            except BadTensors as error:
                raise BadTensors(f"tensor '{name}': {error}") from None
        most = self.quantiser.largest_count
        vector[:HEADER_WORDS] = counted, 1, min(clipped, most), int(num_samples > self.sample_cap)
        return vector

    def decode(self, total: Words) -> VectorSum:
        """The sums in an unmasked sum of vectors.

        Raises:
            BadTensors: it has another length.
        """
        if total.shape != (self.num_words,):
            raise BadTensors(f"the sum has {total.size} words, {self.num_words} were expected")
        samples, sites, clipped, capped = (int(word) for word in total[:HEADER_WORDS])
        floats, integers = {}, {}
        for name, info in self.signature.items():
            start, stop = self.places[name]
            if info.is_float:
                floats[name] = self.quantiser.decode(total[start:stop])
                if self.by_samples:
                    floats[name] *= self.sample_cap
            else:
                integers[name] = signed(total[start:stop])
        return VectorSum(samples, sites, clipped, capped, floats, integers)

    def _encode_floats(self, update: TensorFile, name: str, out: Words, share: float) -> int:
        clipped = 0
        for start in range(0, out.size, _BLOCK):
            part = out[start : start + _BLOCK]
            clipped += self.quantiser.encode(update.block(name, start, start + part.size), part, share)
        return clipped


def _integers(file: TensorFile, name: str) -> Array:
    values = file.array(name).reshape(-1)
    if values.dtype == np.uint64 and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise BadTensors("values above 2^63 - 1 do not fit a secure sum")
    return values.astype(np.int64)
