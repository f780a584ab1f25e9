"""Where products are found.

base             the contract: set up, write rows, read revisions, search
opening          settings -> the stores, only their clients imported
probe            a test record: does the store take writes?
milvus           by embedding: Milvus, or the embedded Milvus Lite
elasticsearch    by keywords, on a server
sqlite_fts       by keywords, in a file, where no server is set
memory           in memory, for tests
text_folding     words without case and accents
"""
