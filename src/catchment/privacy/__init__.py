"""Client-level differential privacy: clipping, noise, the accountant, and what a job's fields amount to.

One unit of privacy is one site. Nothing here knows a store or a job, so that a site's agent uses the same
arithmetic as the coordinator.
"""
