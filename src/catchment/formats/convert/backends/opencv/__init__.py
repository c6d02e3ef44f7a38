"""The opencv backend runs in an environment of its own."""
