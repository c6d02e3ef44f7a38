"""The converters' environments: one folder each, with its lock and its entry."""
