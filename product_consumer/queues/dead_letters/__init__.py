"""Rejected messages, looked at without being consumed, and sent back.

redrive    the contract of a place where they wait, and their way back
queue      in a dead-letter queue
file       in ``rejected.jsonl``
"""
