"""Writes a small Caffe model with MMdnn's Caffe messages; run by that environment's Python."""

import sys
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from mmdnn.conversion.caffe import caffe_pb2

FOLDER = Path(sys.argv[1])
GENERATOR = np.random.default_rng(0)
PROTOTXT = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "full" type: "InnerProduct" bottom: "pool" top: "full" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "full" top: "prob" }
"""
WEIGHTS = {"conv": [(4, 3, 3, 3), (4,)], "full": [(5, 36), (5,)]}

folder = FOLDER / "small"
folder.mkdir(parents=True)
(folder / "deploy.prototxt").write_text(PROTOTXT)
net = caffe_pb2.NetParameter()
text_format.Parse(PROTOTXT, net)
for layer in net.layer:
    for shape in WEIGHTS.get(layer.name, ()):
        blob = layer.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend(GENERATOR.normal(size=int(np.prod(shape))).tolist())
(folder / "small.caffemodel").write_bytes(net.SerializeToString())
