-- What was said, who is held, and the rooms. Numbers of users and rooms are drawn at random, so that
-- nobody is ever taken for somebody who had the same name before.

-- The log. A message is to one user, to a room, or (both 0) to everybody. Times are milliseconds
-- since the epoch (UTC). "request" is the sender's own Id.
CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    author INTEGER NOT NULL,
    sender TEXT NOT NULL,
    recipient INTEGER NOT NULL,
    room INTEGER NOT NULL,
    "to" TEXT NOT NULL,
    text TEXT NOT NULL,
    request TEXT
);

-- All below, up to "words", is made from messages, and follows them in large steps: this is how
-- far it has come.
CREATE TABLE progress (indexed INTEGER NOT NULL, forgotten INTEGER NOT NULL);
INSERT INTO progress VALUES (0, 0);

-- In which conversations a message stands: with everybody (0), in a room (its number), and for the
-- two parties of a direct one (the user's number, and the other's name as it is looked up).
CREATE TABLE place (
    party INTEGER NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (party, name, number)
) WITHOUT ROWID;

CREATE VIEW message_place (party, name, number) AS
    SELECT room, '', number FROM message WHERE recipient = 0
    UNION ALL SELECT author, lower("to"), number FROM message WHERE recipient != 0
    UNION ALL SELECT recipient, lower(sender), number FROM message WHERE recipient != 0;

-- Under which Ids users sent their newest messages, so that one sent again is not a second one.
CREATE TABLE request (
    user INTEGER NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (user, id)
) WITHOUT ROWID;

CREATE VIRTUAL TABLE words USING fts5 (
    text, content = 'message', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
);

-- Users whose names are held, by the SHA-256 of what proves who they are. They are parties of no
-- message up to "since", and have confirmed those up to "position".
CREATE TABLE user (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    token BLOB NOT NULL,
    since INTEGER NOT NULL,
    position INTEGER NOT NULL
);

CREATE TABLE room (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    private INTEGER NOT NULL,
    owner INTEGER NOT NULL
);

-- A member gets the messages after "since", up to "until" if they have left.
CREATE TABLE member (
    room INTEGER NOT NULL,
    user INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    PRIMARY KEY (user, room, since)
) WITHOUT ROWID;

CREATE TABLE invitation (
    room INTEGER NOT NULL,
    user INTEGER NOT NULL,
    PRIMARY KEY (room, user)
) WITHOUT ROWID;
