"""Stores beside a Caffe model what OpenCV makes of some inputs; run by the opencv environment's Python."""

import sys
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(sys.argv[1])
(prototxt,), (weights,) = FOLDER.glob("*.prototxt"), FOLDER.glob("*.caffemodel")
net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
images = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
net.setInput(images)
np.savez(FOLDER.with_suffix(".npz"), **{"in:data": images, "out:0": net.forward()})
