"""The local model server's process: `python -m api.serving`."""
