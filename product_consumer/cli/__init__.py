"""python -m product_consumer COMMAND: the operator's commands."""
