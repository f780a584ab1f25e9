"""Programs that measure. Each prints its results; run them from the root of the repository.

    python -m benchmarks.anomalies      what the detectors find of planted anomalies, and how fast
    python -m benchmarks.batching       a simulated device behind locks and behind one batcher
    python -m benchmarks.device         the model on a real device: speed, share, exactness
    python -m benchmarks.gil            CPU time and GIL-held time of a worker per message
    python -m benchmarks.ledger_size    the calls of a batch on a small and on a large ledger
    python -m benchmarks.order_queries  the order service's queries over a million orders
    python -m benchmarks.pipeline       the whole worker beside a naive one
    python -m benchmarks.rabbitmq       the queue and the sender of RabbitMQ beside pika alone
    python -m benchmarks.replay         price-only updates beside full ones
    python -m benchmarks.steps          decoding, resizing and tokenising beside OpenCLIP's own
    python -m benchmarks.stream_files   collectors of pictures and words beside writing files alone

Their shared code is in ``benchmarks.support``.
"""
