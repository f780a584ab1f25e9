"""The operator's console: ``python -m product_consumer COMMAND``."""

from product_consumer.runtime.early_exit import guard_errors

if __name__ == "__main__":
    guard_errors()  # before the slow imports

from product_consumer.cli.app import main

if __name__ == "__main__":
    main()
