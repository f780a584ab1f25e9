"""The parts of the realtime product data consumer, one file per part.

settings.py      every setting: typed, ranged, read once
models.py        Message, Product, ProductRow, Outcome: frozen values, no I/O
errors.py        the error tree; the class of an error decides what happens to a message

work.py          one message on its way, and what is known of it so far
validation.py    message body -> Product, or a named reason
    envelopes.py  strict JSON, SNS and EventBridge      schema.py  the message's JSON Schema
    prices.py, currencies.py, reviews.py, times.py, texts.py    its fields
fetching.py      image URL -> bytes, within address, byte, time and redirect limits
    downloading.py  one download through redirects
    image_urls.py, addresses.py, http_answers.py        what may be asked, and what was answered
images.py        bytes -> RGB picture, within pixel limits     jpegs.py  most of them, quickly
embedding.py     picture and name -> unit vectors
    tokenizing.py  text -> token ids
    preparing.py  pixels and token ids, made by callers  forward.py  a batch through the model
    batching.py  one thread, one batch per pass         cuda_passes.py  on CUDA: queued, from graphs
    towers.py  pixels and token ids -> rows             model_loading.py  a model with its weights
    model_specs.py  which one    model_weights.py  from where    model_tuning.py  half precision
ledger.py        SQL: the newest state of every product, its revision, price and review history
    ledger_recording.py  the transaction that writes   ledger_rows.py  rows <-> values
    ledger_schema.py  its tables            ledger_database.py  connections and their errors
    ledger_suspects.py  messages that a process died with in its hands
    ledger_marks.py  what is due for a check            ledger_pages.py  the ledger from end to end
combined_stores.py  what several threads ask of ledger and stores at once is one call
    combining.py  how calls are put together
showing.py       current rows into stores, until they are still current afterwards
    sweeper.py  reads back and repairs                  rebuilding.py  fills a store again
queues/          where messages come from
stores/          where products can be found            folding.py  words without case and accents
search.py        by words, picture or keywords, fused; every hit joined with the ledger

orders/          the second stream: orders, counted once, and their statistics
quality/         what is odd about orders and products: rules, optionally a language model

in_flight.py     extends visibility timeouts until a message is settled
backoff.py       growing randomised delays that end on stop
breaker.py       one per store: while it is down nobody receives
deciding.py      an error -> reject, retry later or release
supervision.py   threads that die or hang               logs.py  one line each, text or JSON
    stopping.py   signals, and how long a stop may take  beats.py  who is at which stage since when
    processes.py  several workers as one service         child_process.py  one of them
    systemd.py    tells systemd how the service is       health.py  /metrics, /healthz, /readyz
metrics.py       what is counted and timed              parts.py  settings -> the parts above
console.py       the operator's commands; run by __main__.py
    console_views.py, console_rebuild.py, checking.py
    console_dlq.py, console_dlq_views.py    rejected messages: list, show, redrive
    console_serve.py    the order service, alone or beside a worker
demo/            drawn catalogue, its tiny model, local servers

What happens to a message, step by step, is told by ``data_management.py`` beside this package.
"""
