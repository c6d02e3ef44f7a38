"""What everything that a flow run works on has in common: a lease, a stop, somebody who looks after it."""
