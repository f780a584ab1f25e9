"""Pixels and token ids -> unit vectors; one model, one thread."""
