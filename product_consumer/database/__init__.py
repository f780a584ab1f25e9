"""One SQL database, SQLite or PostgreSQL, for everyone who keeps tables in it.

connection      transactions, durability
pool            the budget of connections that all threads share
postgres        sessions with PostgreSQL, straight or through a pooler
postgres_url    what DATABASE_URL says about a PostgreSQL server
errors          driver errors -> ours
bulk_insert     many rows by one statement that stays the same
column_types    columns that mean the same on both databases
"""
