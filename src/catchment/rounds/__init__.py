"""Rounds: claim a run, select, publish, collect, aggregate and commit, evaluate, save, finish."""
