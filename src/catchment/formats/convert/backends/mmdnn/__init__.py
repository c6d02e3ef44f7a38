"""The mmdnn backend runs in an environment of its own."""
