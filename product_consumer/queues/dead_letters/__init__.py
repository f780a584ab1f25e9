"""Rejected messages: looked at, and sent back."""
