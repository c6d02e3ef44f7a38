"""A model server's data plane: the Open Inference Protocol v2 over onnxruntime.

Parsing, admission, running, answering and counting, without a web framework: `api.model_server` puts it
behind sockets and supervises nothing. `docs/model-server.md` says how to use it.
"""
