"""One SQL database, SQLite or PostgreSQL, for everyone who keeps tables in it.

connection      connections, transactions, durability
errors          driver errors -> ours
bulk_insert     many rows by one statement that stays the same
column_types    columns that mean the same on both databases
"""
