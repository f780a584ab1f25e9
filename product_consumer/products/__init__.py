"""The product stream."""
