"""The parts of the realtime product data consumer, one file per part.

settings.py      every setting: typed, ranged, read once
models.py        Message, Product, ProductRow, Outcome: frozen values, no I/O
errors.py        the error tree; the class of an error decides what happens to a message

validation.py    message body -> Product, or a named reason
    envelopes.py  strict JSON, SNS and EventBridge      schema.py  the message's JSON Schema
    prices.py, currencies.py, reviews.py, times.py, texts.py    its fields
fetching.py      image URL -> bytes, within address, byte, time and redirect limits
    image_urls.py, addresses.py, http_answers.py        what may be asked, and what was answered
images.py        bytes -> RGB picture, within pixel limits
embedding.py     picture and name -> unit vectors
    batching.py  one thread, one batch per pass         model_loading.py  weights, checked
ledger.py        SQL: the newest state of every product, its revision, price and review history
    ledger_schema.py  its tables                        ledger_database.py  engines and their errors
queues/          where messages come from
stores/          where products can be found            folding.py  words without case and accents
search.py        by words, picture or keywords, fused; every hit joined with the ledger

in_flight.py     extends visibility timeouts until a message is settled
backoff.py       growing randomised delays that end on stop
breaker.py       one per store: while it is down nobody receives
deciding.py      an error -> reject, retry later or release
supervision.py   threads and signals                    logs.py  one line each, text or JSON
metrics.py       what is counted and timed              parts.py  settings -> the parts above
console.py       the operator's commands (console_views.py, checking.py); run by __main__.py
demo/            drawn catalogue, its tiny model, local servers

What happens to a message, step by step, is told by ``data_management.py`` beside this package.
"""
