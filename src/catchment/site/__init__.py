"""The site's agent: everything of Catchment that runs where the data is."""
