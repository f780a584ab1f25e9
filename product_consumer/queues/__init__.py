"""Where messages come from: the contract in base.py, its implementations beside it."""
