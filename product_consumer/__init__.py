"""The realtime product data consumer: one package per kind of thing.

messages     what every message body has in common: envelopes, times, prices, currencies
images       image URL -> bytes -> RGB pixels, within limits
embedding    pixels and token ids -> embeddings; one model, one thread
queues       where messages come from; the contract is base
stores       where products are found; the contract is base
database     one SQL database, SQLite or PostgreSQL, for all who keep tables in it
pipeline     what every stream needs between queue and work: batches, breakers, stages
ledger       SQL: newest state of every product, history, pending checks
products     the product stream
orders       the order stream
streams      records, pictures and texts on RabbitMQ, and the stages of a model pipeline
sync         keeps the stores equal to the ledger: write, sweep, rebuild
search       products by text, image or keywords, fused
quality      advice on orders and products: rules, and optionally a language model
network      addresses, sockets that listen, causes of failed TLS
runtime      a worker process: supervisor, signals, processes, health
api          HTTP: the order service
cli          python -m product_consumer COMMAND
demo         make demo

errors       the error tree: its branch decides what happens to a message
outcomes     what became of a message
models       the values that packages hand to each other
money        amounts in minor units, and as people read them
text         what text may be stored, where it is cut, how it is shown
vectors      arithmetic on the embeddings of a batch
settings     every setting: typed, ranged, with its default
queue_addresses  the streams, and which settings name their queues
refusals     which errors at a start are final, and which are waited for
environment  the only reader of the environment and of .env
metrics      what is counted and timed
logs         one line per event, text or JSON
__main__     runs cli

What happens to a message, step by step, is told by ``data_management.py`` beside this package.
Imports point one way, and a contract in ``pyproject.toml`` holds it.
"""
