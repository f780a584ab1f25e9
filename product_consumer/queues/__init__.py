"""Where messages come from: base.py is the contract, opening.py picks a transport by URL."""
