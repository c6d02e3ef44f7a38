"""What runs workloads on clusters, as manifests: pure functions from workloads to Kubernetes objects."""
