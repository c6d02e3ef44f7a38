"""Caffe models: a prototxt that draws the network, and a caffemodel with its weights (BVLC caffe.proto)."""
