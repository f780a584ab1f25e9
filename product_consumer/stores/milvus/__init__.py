"""Products in Milvus, or in the Milvus Lite that ships with it."""
