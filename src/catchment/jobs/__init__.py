"""Jobs: their specification, their state machine, and what may be done to them when."""
