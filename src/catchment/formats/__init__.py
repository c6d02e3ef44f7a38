"""Model formats: what stands in a model's files, and how they become files of another format."""
