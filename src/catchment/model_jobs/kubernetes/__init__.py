"""ModelJobs in pods: the objects, the waiting for them, and the two ends of the way that files take."""
