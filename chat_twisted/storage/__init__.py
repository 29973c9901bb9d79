"""Where all of it is kept: the ledger of one server, its archive in SQLite, and what reads it."""
