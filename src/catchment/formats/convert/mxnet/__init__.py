"""MXNet models: a symbol.json that draws the network, and a .params file with its arrays."""
