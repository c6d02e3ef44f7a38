"""A cluster, as far as Catchment needs one: objects applied, watched, removed, pods and logs read."""
