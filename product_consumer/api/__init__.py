"""HTTP: the order service."""
