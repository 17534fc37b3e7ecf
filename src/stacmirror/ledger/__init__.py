"""The run's memory: one SQLite file, one row an item. `schema` says what is in it, `store` writes and reads it."""
