"""The base backend runs in Catchment's own environment."""
