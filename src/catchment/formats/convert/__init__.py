"""Conversion of models between formats: isolated backends, routes over them, and the equivalence gate."""
