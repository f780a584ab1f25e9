"""Products in Elasticsearch, found by the words of their names.

store     the contract of a store on Elasticsearch
index     the index behind its alias: made, verified, its mapping
errors    what a failed call means for its messages
"""
