"""The torch backend runs in an environment of its own."""
