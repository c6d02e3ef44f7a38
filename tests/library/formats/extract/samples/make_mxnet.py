"""Makes mxnet/: a symbol and its parameters.

Run: python make_mxnet.py, with mxnet 1.9.1 and numpy 1.23.5.
"""

from __future__ import annotations

from pathlib import Path

import mxnet as mx

HERE = Path(__file__).parent / "mxnet"
HERE.mkdir(exist_ok=True)
data = mx.sym.var("data")
conv = mx.sym.Convolution(data, kernel=(3, 3), num_filter=2, name="conv")
norm = mx.sym.BatchNorm(conv, name="norm")
hidden = mx.sym.Activation(norm, act_type="relu", name="act")
net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(hidden, num_hidden=3, name="fc"), name="softmax")
module = mx.mod.Module(net)
module.bind([("data", (1, 1, 6, 6))], [("softmax_label", (1,))])
module.init_params()
module.save_checkpoint(str(HERE / "model"), 0)
