"""Runs the demo of streams: ``python -m product_consumer.demo.streams``."""

from product_consumer.runtime.early_exit import guard_start

if __name__ == "__main__":
    guard_start()  # before the slow imports, so that a stop meanwhile is clean, too

from product_consumer.demo.streams.run import main
from product_consumer.runtime.signals import leave

if __name__ == "__main__":
    leave(main())
