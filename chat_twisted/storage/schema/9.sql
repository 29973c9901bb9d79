-- The archive of a node of a cluster: the identity of the cluster's log, the position in the log up to
-- which all records are applied, the hash chain there, and the node that wrote it with its last
-- incarnation. A single server has no row.
CREATE TABLE cluster (
    stream TEXT NOT NULL,
    applied INTEGER NOT NULL,
    chain BLOB NOT NULL,
    node TEXT NOT NULL,
    incarnation INTEGER NOT NULL
);

-- The known nodes, as the log has decided: the incarnation and the number of its last batch, the time
-- of the log when it was last heard of, the position that it has applied, the version of the log's
-- format that it knows, the position at which it came up, and whether it is a member now.
CREATE TABLE node (
    name TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    heard INTEGER NOT NULL,
    position INTEGER NOT NULL,
    format INTEGER NOT NULL,
    since INTEGER NOT NULL,
    live INTEGER NOT NULL
);
