"""ModelJobs: signatures are read, versions become other formats, and nothing counts before it was checked."""
