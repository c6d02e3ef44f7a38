"""What runs workloads: model servers of this machine, or a cluster."""
