"""The gateway's rules: where a request goes, when it is tried again, what is counted. No sockets."""
