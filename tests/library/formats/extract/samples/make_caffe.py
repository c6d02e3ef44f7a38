"""Makes caffe/model.caffemodel, for the prototxt that lies beside it, and caffe_old/ of the format before it.

Run: python make_caffe.py, with mmdnn 0.3.1 and protobuf 3.20.3: Caffe's own message classes.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from mmdnn.conversion.caffe import caffe_pb2

HERE = Path(__file__).parent

net = caffe_pb2.NetParameter()
text_format.Merge((HERE / "caffe" / "deploy.prototxt").read_text(), net)
shapes = {"conv1": [(4, 3, 3, 3), (4,)], "bn": [(4,), (4,), (1,)], "fc": [(5, 4 * 7 * 7), (5,)]}
for layer in net.layer:
    for shape in shapes.get(layer.name, ()):
        blob = layer.blobs.add()
        blob.shape.dim.extend(shape)
        total = 1
        for size in shape:
            total *= size
        blob.data.extend([0.5] * total)
(HERE / "caffe" / "model.caffemodel").write_bytes(net.SerializeToString())

old = caffe_pb2.NetParameter()
text_format.Merge((HERE / "caffe_old" / "net.prototxt").read_text(), old)
blob = old.layers[0].blobs.add(num=2, channels=1, height=3, width=3)
blob.data.extend([0.5] * 18)
(HERE / "caffe_old" / "net.caffemodel").write_bytes(old.SerializeToString())
