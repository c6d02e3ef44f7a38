"""Looking after a store: removing what nothing refers to, hashing its blobs again, telling how it is."""
