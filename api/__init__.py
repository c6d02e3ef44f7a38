"""The thin HTTP face of Catchment: parse, call the library, answer."""
