"""Conversions from one model format to another; each keeps the names and the numbers of its source."""
