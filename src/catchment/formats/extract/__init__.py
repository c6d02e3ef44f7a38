"""Extraction: the signature, operators and parameters that a model's files hold.

`running.run_extraction` is what others call: it reads in a confined child. The readers, one a file, execute
nothing that a model holds and import no framework.
"""
