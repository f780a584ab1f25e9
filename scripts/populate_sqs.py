"""Fill the order queue: ``python scripts/populate_sqs.py [--count N] [--seed S]``.

With AWS_ENDPOINT_URL set (LocalStack, ElasticMQ) and no ORDERS_QUEUE_URL, the queue is made first.
``python -m product_consumer publish-orders`` does the same with more choices.
"""

import sys
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from product_consumer.cli.orders import populate
from product_consumer.errors import ProductConsumerError

if __name__ == "__main__":
    try:
        typer.run(populate)
    except ProductConsumerError as error:
        sys.exit(str(error))
