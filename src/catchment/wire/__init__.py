"""Messages between the coordinator's exchange and the site agents, versioned."""
