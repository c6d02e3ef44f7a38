"""Writes the sample models of the mxnet backend; run by its environment's Python."""

import sys
from pathlib import Path

import mxnet as mx
import numpy as np

FOLDER = Path(sys.argv[1])
mx.random.seed(0)

data = mx.sym.Variable("data")
net = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, name="conv")
net = mx.sym.BatchNorm(net, fix_gamma=False, name="norm")
net = mx.sym.Activation(net, act_type="relu", name="relu")
net = mx.sym.Pooling(net, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool")
net = mx.sym.FullyConnected(net, num_hidden=5, name="full")
net = mx.sym.SoftmaxOutput(net, name="softmax")
module = mx.mod.Module(net, data_names=["data"], label_names=["softmax_label"])
module.bind([("data", (2, 3, 8, 8))], [("softmax_label", (2,))], for_training=False)
module.init_params(mx.init.Xavier())
(FOLDER / "small").mkdir(parents=True)
module.save_checkpoint(str(FOLDER / "small" / "model"), 0)
images = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
scores = module.predict(mx.io.NDArrayIter({"data": images}, batch_size=2)).asnumpy()
np.savez(FOLDER / "small.npz", **{"in:data": images, "out:0": scores})
