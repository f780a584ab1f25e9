"""Quality checks of orders and products: advice beside the stream, never in its way.

models.py            a flag: something odd about one order or product
rules.py             what is odd about an order or a product, by rules and its own history
redaction.py         what leaves the process, and what never does
language_model.py    optionally asks an OpenAI-compatible endpoint; it can only add flags
background.py        a bounded queue and one thread; when it is full, checks are skipped
checker.py           runs the rules, then the model, after an order was counted
opening.py           settings -> the checker
store.py, tables.py  flags and product histories, in the ledger's database

A flag changes, blocks and drops nothing. Checks run after an order is counted and off its way to
the acknowledgement, so a crash, a full queue or a slow model costs advice only.
"""
