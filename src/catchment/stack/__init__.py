"""The whole system on one machine: the processes behind `catchment up`."""
