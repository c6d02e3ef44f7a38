"""The mxnet backend runs in an environment of its own."""
