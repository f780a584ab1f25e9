"""Advice on orders and products, beside the stream and never in its way.

checker           runs the rules on what was stored, then the language model on some
rules             what is odd, by rules and by the subject's own history
language_model    optionally asks an OpenAI-compatible endpoint; it can only add flags
redaction         what leaves the process for it, and what never does
background        a bounded queue and one thread; when it is full, checks are skipped
models            QualityFlag
store             flags and what products usually cost, in the ledger's database
tables            the tables
opening           settings -> running checks

A crash, a full queue or a slow language model costs advice only.
"""
