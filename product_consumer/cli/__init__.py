"""The operator's commands: ``python -m product_consumer COMMAND``.

app                  setup-queues, publish, search, history, rebuild, schema, check
output               JSON for every terminal, errors as one line
configuration        the settings of a command
components           the components of a worker, opened for a command
check                tries every configured dependency, as a worker would at its start
rebuild              fills one store from the ledger, with a progress bar
product_views        products and their history as text and JSON
orders               publish-orders, rebuild-stats, verify-stats
stages               stage, request: the steps of a model pipeline, and their client
serve                the order service as a command
streams              produce and collect: records, pictures, texts
dead_letters         dlq list, dlq show, dlq redrive
dead_letter_views    rejected messages as text and JSON
"""
