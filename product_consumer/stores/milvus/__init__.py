"""Products in Milvus, or in the Milvus Lite that ships with it.

store              the contract of a store on Milvus
client             calls, timed, their errors translated
pymilvus_import    the library, which reads variables when it is imported
collection         made, verified, indexed, loaded, behind an alias
rows               fields, filters, and the identity of a collection
upsert_requests    rows packed by column, an embedding as its bytes
errors             what a failed call means for its messages
embedded           one process that uses an embedded database
embedded_server    the program that serves it to several
lock_file          the files by which the two find each other
"""
