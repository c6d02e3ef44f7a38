"""The tensorflow backend runs in an environment of its own."""
