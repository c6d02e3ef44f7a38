"""Extenders: a job's own functions at the coordinator, run in a confined child process."""
