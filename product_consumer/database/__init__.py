"""One SQL database, SQLite or PostgreSQL, for everyone who keeps tables in it."""
