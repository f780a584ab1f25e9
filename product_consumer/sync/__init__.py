"""Keeps the stores equal to the ledger."""
