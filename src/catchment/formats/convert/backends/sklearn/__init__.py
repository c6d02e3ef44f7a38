"""The sklearn backend runs in an environment of its own."""
