"""Products in Milvus, or in the Milvus Lite that ships with it.

store              the contract of a store on Milvus
client             calls, timed, their errors translated
collection         made, verified, indexed, loaded, behind an alias
rows               fields, filters, and the identity of a collection
upsert_requests    rows packed by column, a vector as its bytes
errors             what a failed call means for its messages
embedded           a Milvus Lite that several processes share
"""
