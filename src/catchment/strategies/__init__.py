"""Aggregation rules: one algorithm a file, behind one small interface."""
