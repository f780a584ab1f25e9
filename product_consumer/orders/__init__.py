"""Orders: the second stream through the same worker. The ledger counts, Redis shows.

models.py        Order, OrderItem and what is read back: frozen values, integer minor units
validation.py    message body -> Order, or a named reason     cleaning.py  ids, words, amounts
ledger.py        SQL: every order once, with totals per user, day and currency
    tables.py    its tables                       statistics.py  the reading half
redis_stats.py   shows the ledger's totals in Redis, absolute values only
pipeline.py      validate -> record -> show; what the consumer loop calls
parts.py         settings -> the parts above
maintenance.py   rebuild and verify what Redis shows
producing.py     realistic orders from a seed     console_orders.py  the commands

Nothing here loads a model, a vector store or a search engine.
"""
