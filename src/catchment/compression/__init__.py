"""Upload compression: what a client update weighs on its way from a site to the coordinator.

```text
bf16   every element rounded to bfloat16: half the bytes of float32
int8   blocks of elements on 255 levels, rounded at random so that the mean is kept: a quarter
topk   the largest elements of each tensor and their places; what stays behind is added to the next update
```

Only float tensors of the model with 64 elements or more are compressed. Integers, small tensors and an
algorithm's own vectors (`catchment.strategies.vectors`) travel as they are: control variates must add up.
"""

from __future__ import annotations

from catchment.compression.codec import Codec
from catchment.compression.params import codec_of
from catchment.compression.reading import CompressedFile, opened
from catchment.compression.writing import encode

__all__ = ["Codec", "CompressedFile", "codec_of", "encode", "opened"]
