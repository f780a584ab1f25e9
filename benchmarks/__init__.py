"""Programs that measure. Each prints what it measured; run one from the root of the repository.

    python -m benchmarks.batching       a simulated device behind locks and behind one batcher
    python -m benchmarks.device         the model on a real device: speed, share, exactness
    python -m benchmarks.gil            CPU time and GIL-held time of a worker per message
    python -m benchmarks.ledger_size    what a batch asks of a small and of a large ledger
    python -m benchmarks.order_queries  the order service's questions over a million orders
    python -m benchmarks.pipeline       the whole worker beside a naive one
    python -m benchmarks.replay         price-only updates beside full ones
    python -m benchmarks.steps          decoding, resizing and tokenising beside OpenCLIP's own

What they share is in ``benchmarks.support``.
"""
