"""SQL: the newest state of every product, its history, and what is due for a check."""
