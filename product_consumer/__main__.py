"""The operator's console: ``python -m product_consumer COMMAND``."""

from product_consumer.cli.app import main

if __name__ == "__main__":
    main()
