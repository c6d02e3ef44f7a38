"""What a training script imports: `import catchment.sdk as fl`.

A script loads the round's weights, trains on its site's data, and hands back weights and metrics:

```python
fl.load_weights(model)
...  # train
fl.commit(metrics={"sample_num": len(data), "loss": loss}, trained_model=model)
```
"""

from __future__ import annotations

from catchment.sdk.algorithms import create_loss, create_optimizer, feddc_loss
from catchment.sdk.folder import get_dataset_path, seed, task
from catchment.sdk.metrics import commit_metrics
from catchment.sdk.parameters import (
    get_file,
    get_parameter,
    get_parameters,
    put_file,
    put_parameter,
    put_parameters,
)
from catchment.sdk.weights import commit, commit_weights, load_weights, save_weights

__all__ = [
    "commit",
    "commit_metrics",
    "commit_weights",
    "create_loss",
    "create_optimizer",
    "feddc_loss",
    "get_dataset_path",
    "get_file",
    "get_parameter",
    "get_parameters",
    "load_weights",
    "put_file",
    "put_parameter",
    "put_parameters",
    "save_weights",
    "seed",
    "task",
]
