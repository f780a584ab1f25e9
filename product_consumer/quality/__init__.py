"""Advice on orders and products, beside the stream and never in its way.

checker           runs the rules on stored subjects, then the language model on some
rules             compare a subject with fixed limits and its own history
language_model    optionally asks an OpenAI-compatible endpoint; it can only add flags
redaction         descriptions for the model, without personal data
background        a bounded queue and one thread; when it is full, checks are skipped
models            QualityFlag
store             flags and the usual price of products, in the ledger's database
tables            its tables
opening           settings -> running checks

A crash, a full queue or a slow language model costs advice only.
"""
