-- Accounts, sanctions, and who joined a room first.

-- 0 is a guest, 1 has an account, 2 is an operator's. Who has an account is held for ever and has no
-- token; keys and passwords prove who it is.
ALTER TABLE user ADD COLUMN account INTEGER NOT NULL DEFAULT 0;

-- Keys as in an authorized_keys file, without and with the comment; passwords as argon2 writes them.
CREATE TABLE key (
    user INTEGER NOT NULL,
    key TEXT NOT NULL,
    comment TEXT NOT NULL,
    PRIMARY KEY (user, key)
) WITHOUT ROWID;

CREATE TABLE password (user INTEGER PRIMARY KEY, hash TEXT NOT NULL);

-- It is not used any more, and goes with the next step: an operator's commands ask the server.
ALTER TABLE progress ADD COLUMN edition INTEGER NOT NULL DEFAULT 0;

-- Who is kept out ("ban") or may not talk ("mute"): a folded name, an address or a network. "until"
-- is in milliseconds since the epoch, 0 is for ever.
CREATE TABLE sanction (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    until INTEGER NOT NULL,
    reason TEXT NOT NULL,
    "by" TEXT NOT NULL,
    PRIMARY KEY (kind, subject)
) WITHOUT ROWID;

-- In which order members joined: several may have the same "since".
ALTER TABLE member ADD COLUMN joined INTEGER NOT NULL DEFAULT 0;
CREATE INDEX member_joined ON member (joined);
