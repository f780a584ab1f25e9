"""Products in Elasticsearch, found by the words of their names.

store     the contract of a store on Elasticsearch
index     the index behind its alias: made, verified, its mapping
reaching  asks a server before the slow part of a start
errors    what a failed call means for its messages
"""
