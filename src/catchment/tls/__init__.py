"""TLS: an authority of one's own, contexts that follow their files, and what a certificate proves."""
