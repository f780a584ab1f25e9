"""Where products are found: the contract in base.py, its implementations beside it."""
