"""The local model server's process: `python -m api.model_server`."""
