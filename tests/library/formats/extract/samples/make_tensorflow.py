"""Makes saved_model_v2/, saved_model_v1/ and graphdef/.

Run: python make_tensorflow.py, with tensorflow-cpu 2.21.0 and keras 3.15.1. Variables are not kept:
saved_model.pb is all that extraction looks at.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

HERE = Path(__file__).parent


def only_the_graph(folder: Path, name: str) -> None:
    (HERE / name).mkdir(exist_ok=True)
    shutil.copy(folder / "saved_model.pb", HERE / name / "saved_model.pb")
    shutil.rmtree(folder)


tf.random.set_seed(0)
model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, activation="softmax", name="y")])
model.export(HERE / "tf_exported", verbose=False)
only_the_graph(HERE / "tf_exported", "saved_model_v2")

function = tf.function(model.call).get_concrete_function(tf.TensorSpec((None, 4), tf.float32, name="x"))
frozen = convert_variables_to_constants_v2(function).graph.as_graph_def()
(HERE / "graphdef").mkdir(exist_ok=True)
(HERE / "graphdef" / "model.graphdef").write_bytes(frozen.SerializeToString())

v1 = tf.compat.v1
with tf.Graph().as_default(), v1.Session() as session:
    x = v1.placeholder(tf.float32, (None, 4), name="x")
    w = v1.get_variable("w", (4, 3))
    y = tf.nn.softmax(tf.matmul(x, w), name="y")
    session.run(v1.global_variables_initializer())
    signature = v1.saved_model.predict_signature_def({"features": x}, {"scores": y})
    builder = v1.saved_model.builder.SavedModelBuilder(str(HERE / "built"))
    builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={"classify": signature})
    builder.save()
only_the_graph(HERE / "built", "saved_model_v1")
