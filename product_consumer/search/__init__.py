"""Search over everything stored.

searcher    products by text, image or keywords, fused; every hit joined with the ledger
"""
