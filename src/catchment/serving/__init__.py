"""A model server's data plane: the Open Inference Protocol v2 over onnxruntime.

Parsing, admission, running, answering and counting, without a web framework: `api.serving` puts it behind
sockets and supervises nothing. `docs/serving-local.md` says how to use it.
"""
