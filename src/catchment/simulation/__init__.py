"""Simulation: the clients of a job as numbers in one fleet instead of sites with agents of their own.

Job, rounds, strategies, privacy, admission and commit are those of a deployed job, on the same store. Only
the way from an order to a result is shorter: a chunk of clients shares one warm process.
"""
