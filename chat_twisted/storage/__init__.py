"""Storage: the ledger of a single server, its archive in SQLite, and the connections to it."""
