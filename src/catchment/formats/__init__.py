"""Model formats: what a model file says of itself, read without the framework that wrote it."""
