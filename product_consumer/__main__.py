"""The operator's console: ``python -m product_consumer COMMAND``."""

import sys

from product_consumer.runtime.early_exit import guard_errors, guard_start

if __name__ == "__main__":
    # Before the slow imports. A stop is how these commands end, so it is no failure.
    if {"produce", "collect", "stage"}.intersection(sys.argv[1:2]):
        guard_start()
    else:
        guard_errors()

from product_consumer.cli.app import main

if __name__ == "__main__":
    main()
