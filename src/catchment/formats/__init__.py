"""Model files of every format, read without the framework that wrote them."""
