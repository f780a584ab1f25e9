"""The product stream.

parser             message body -> Product, or a named reason
schema             the shape of a product message, and its JSON Schema
reviews            ratings and review counts
review_words       the words of pages beside them
item               a product message on its way through the pipeline
shared_stores      ledger and stores for many threads: grouped and guarded
embedding_reuse    embeddings that the ledger has need no model
components         settings -> the components of the stream

The pipeline itself is in ``data_management.py``.
"""
