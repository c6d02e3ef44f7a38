"""The coordinator's side of the exchange with the sites: registration, work, transfer, results."""
