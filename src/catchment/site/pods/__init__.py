"""Trainings as pods: a site's agent in a Kubernetes cluster makes a Job of each script."""
