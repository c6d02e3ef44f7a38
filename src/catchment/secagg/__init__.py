"""Secure aggregation: the coordinator learns the sum of its sites' updates and none of the summands."""
